package explain

import (
	"bytes"
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

var inodeFlagNames = []string{"sync", "immutable", "append", "nodump", "noatime", "i_size_dirty", "i_sectors_dirty", "unlinked",
	"backptr_untrusted", "has_child_snapshot", "has_case_insensitive", "31bit_dirent_offset", "has_inode_opts", "has_access_acl", "has_default_acl"}

func hashType(t uint8) string {
	names := [...]string{"crc32c", "crc64", "siphash_old", "siphash"}
	if int(t) < len(names) {
		return names[t]
	}
	return "(invalid hash type " + itoa(uint64(t)) + ")"
}

// fileTypes are names of file types, by the upper four bits of a mode, which is
// also the type of a dirent.
var fileTypes = [...]string{1: "fifo", 2: "chr", 4: "dir", 6: "blk", 8: "reg", 10: "lnk", 12: "sock", 14: "whiteout", 16: "subvol"}

func fileType(t uint8) string {
	if int(t) < len(fileTypes) && fileTypes[t] != "" {
		return fileTypes[t]
	}
	if t == 0 {
		return "unknown"
	}
	return "(bad d_type)"
}

// field is a field of an inode with its name.
type field struct {
	name string
	v    uint64
}

// inodeFields are the varint fields of an inode. Up to 1.13 the last ones were
// not known.
func inodeFields(i *ondisk.Inode, old bool) []field {
	f := []field{
		{"bi_atime", uint64(i.Atime)}, {"bi_ctime", uint64(i.Ctime)}, {"bi_mtime", uint64(i.Mtime)}, {"bi_otime", uint64(i.Otime)},
		{"bi_uid", uint64(i.UID)}, {"bi_gid", uint64(i.GID)}, {"bi_nlink", uint64(i.Nlink)}, {"bi_generation", uint64(i.Generation)},
		{"bi_dev", uint64(i.Dev)}, {"bi_data_checksum", uint64(i.DataChecksum)}, {"bi_compression", uint64(i.Compression)},
		{"bi_project", uint64(i.Project)}, {"bi_background_compression", uint64(i.BackgroundCompression)},
		{"bi_data_replicas", uint64(i.DataReplicas)}, {"bi_promote_target", uint64(i.PromoteTarget)},
		{"bi_foreground_target", uint64(i.ForegroundTarget)}, {"bi_background_target", uint64(i.BackgroundTarget)},
		{"bi_erasure_code", uint64(i.ErasureCode)}, {"bi_fields_set", uint64(i.FieldsSet)}, {"bi_dir", i.Dir},
		{"bi_dir_offset", i.DirOffset}, {"bi_subvol", uint64(i.Subvol)}, {"bi_parent_subvol", uint64(i.ParentSubvol)},
		{"bi_nocow", uint64(i.Nocow)},
	}
	if old {
		return f
	}
	return append(f, field{"bi_depth", uint64(i.Depth)}, field{"bi_inodes_32bit", uint64(i.Inodes32bit)},
		field{"bi_casefold", uint64(i.Casefold)}, field{"bi_unused_ec_max_data_blocks", uint64(i.UnusedECMaxDataBlocks)})
}

// rawInodeFlags is the lower half of bi_flags as stored, with the hash type and
// the number of fields.
func rawInodeFlags(kv ondisk.KV) uint32 {
	at := 16
	if kv.Type == ondisk.KeyInode {
		at = 8
	}
	if len(kv.Val) < at+4 {
		return 0
	}
	return binary.LittleEndian.Uint32(kv.Val[at:])
}

func (w *w) inode(kv ondisk.KV) {
	i, err := ondisk.DecodeInode(kv)
	if err != nil {
		w.s("(unpack error)")
		return
	}
	flags := rawInodeFlags(kv)
	w.f("\n  mode=%o", i.Mode)
	if !w.old() {
		w.f(" (%s)", fileType(uint8(i.Mode>>12)))
	}
	names := inodeFlagNames
	if w.old() {
		names = names[:10]
	}
	w.s("\n  flags=")
	w.bits(uint64(flags), names)
	w.f("(%x)\n  journal_seq=%d", flags, i.JournalSeq)
	if !w.old() {
		w.f("\n  hash_seed=%x\n  hash_type=%s", i.HashSeed, hashType(i.StrHash))
	}
	w.f("\n  bi_size=%d\n  bi_sectors=%d\n  bi_version=%d", i.Size, i.Sectors, i.Version)
	for _, f := range inodeFields(&i, w.old()) {
		w.f("\n  %s=%d", f.name, f.v)
	}
	if !w.old() {
		w.s("\n")
	}
}

func (w *w) dirent(kv ondisk.KV) {
	d, err := ondisk.DecodeDirent(kv)
	if err != nil {
		w.bad(err)
		return
	}
	w.text(d.Name)
	if d.Casefold {
		w.s(" (casefold ")
		w.text(d.CfName)
		w.s(")")
	}
	if d.Type == ondisk.DTSubvol {
		w.f(" -> %d -> %d type subvol", d.ParentSubvol, d.ChildSubvol)
		return
	}
	w.f(" -> %d type %s", d.Inum, fileType(d.Type))
}

func (w *w) xattr(kv ondisk.KV) {
	x, err := ondisk.DecodeXattr(kv)
	if err != nil {
		w.bad(err)
		return
	}
	switch x.Type {
	case ondisk.XattrUser, ondisk.XattrTrusted, ondisk.XattrSecurity:
		w.s(x.Prefix())
	default:
		w.f("(type %d)", x.Type)
	}
	w.text(x.Name)
	w.s(":")
	at := len(w.b)
	w.text(x.Value)
	if !w.old() {
		// The lines of a value are indented like the entries of an extent.
		w.b = append(w.b[:at], bytes.ReplaceAll(w.b[at:], []byte("\n"), []byte("\n  "))...)
	}
	if x.Type == ondisk.XattrACLAccess || x.Type == ondisk.XattrACLDefault {
		w.acl(x.Value)
	}
}

// acl prints the entries of an ACL after the bytes themselves.
func (w *w) acl(v []byte) {
	a, err := ondisk.DecodeACL(v)
	for _, e := range a {
		switch e.Tag {
		case ondisk.ACLUser:
			w.f(" user uid %d %d", e.ID, e.Perm)
		case ondisk.ACLGroup:
			w.f(" group gid %d %d", e.ID, e.Perm)
		default:
			w.f(" %s %d", e.Tag, e.Perm)
		}
	}
	w.bad(err)
}

func (w *w) subvolume(kv ondisk.KV) {
	s, err := ondisk.DecodeSubvolume(kv.Val)
	w.f("root %d snapshot id %d creation_parent %d fs_parent %d", s.Inode, s.Snapshot, s.CreationParent, s.FSPathParent)
	if !w.old() {
		if s.Flags&ondisk.SubvolRO != 0 {
			w.s(" ro")
		}
		if s.Flags&ondisk.SubvolSnap != 0 {
			w.s(" snapshot")
		}
		w.s(" " + subvolState(s.LiveState()))
	}
	w.bad(err)
}

func subvolState(s uint32) string {
	switch s {
	case ondisk.SubvolStateLive:
		return "live"
	case ondisk.SubvolStateUnlinked:
		return "unlinked"
	case ondisk.SubvolStateDeleted:
		return "deleted"
	}
	return "(invalid state)"
}

func (w *w) snapshot(kv ondisk.KV) {
	s, err := ondisk.DecodeSnapshot(kv.Val)
	if w.old() {
		w.f("is_subvol %d deleted %d ", s.Flags>>1&1, s.Flags&1)
	}
	w.f("parent %10d children %10d %10d subvol %d tree %d", s.Parent, s.Children[0], s.Children[1], s.Subvol, s.Tree)
	w.f(" depth %d skiplist %d %d %d", s.Depth, s.Skip[0], s.Skip[1], s.Skip[2])
	if !w.old() {
		w.s(" " + snapshotState(s.LiveState()))
	}
	w.bad(err)
}

func snapshotState(s uint32) string {
	switch s {
	case ondisk.SnapshotStateLive:
		return "live"
	case ondisk.SnapshotStateWillDelete:
		return "will_delete"
	case ondisk.SnapshotStateNoKeys:
		return "no_keys"
	case ondisk.SnapshotStateDeleted:
		return "deleted"
	}
	return "(invalid state)"
}

func (w *w) quota(kv ondisk.KV) {
	q, err := ondisk.DecodeQuota(kv.Val)
	// The reference puts nothing between the two.
	w.f("space hardlimit %d softlimit %dinodes hardlimit %d softlimit %d", q.Space.Hard, q.Space.Soft, q.Inodes.Hard, q.Inodes.Soft)
	w.bad(err)
}

// inodeCursor prints where a shard of inode numbers begins and ends, and how far
// it is used.
func (w *w) inodeCursor(kv ondisk.KV) {
	c, err := ondisk.DecodeInodeAllocCursor(kv.Val)
	lo, hi := c.Range(kv.Pos.Offset)
	w.f("min %d max %d consumed %d idx %d generation %d", lo, hi, c.Idx-min(lo, c.Idx), c.Idx, c.Gen)
	w.bad(err)
}

func quotaType(t uint64) string {
	names := [...]string{"user", "group", "project"}
	if t < uint64(len(names)) {
		return names[t]
	}
	return "(invalid quota type " + itoa(t) + ")"
}
