package check

import (
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/strhash"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func file(edit func(i *ondisk.Inode)) func(v *volume) {
	return func(v *volume) { v.inode(isFile, edit) }
}

func dir(edit func(i *ondisk.Inode)) func(v *volume) {
	return func(v *volume) { v.inode(isDirBelow, edit) }
}

func hardlinked(i *ondisk.Inode, _ ondisk.KV) bool { return i.IsRegular() && i.Nlink > 0 }

// fileKV finds a plain file's inode.
func (v *volume) fileKV(fits func(i *ondisk.Inode, kv ondisk.KV) bool) (ondisk.KV, ondisk.Inode) {
	v.t.Helper()
	kv := v.find(ondisk.BtreeInodes, func(kv ondisk.KV) bool {
		i, err := ondisk.DecodeInode(kv)
		return err == nil && kv.Type == ondisk.KeyInodeV3 && fits(&i, kv)
	})
	i, _ := ondisk.DecodeInode(kv)
	return kv, i
}

var inodeMistakes = []mistake{
	{"sectors", "plain", file(func(i *ondisk.Inode) { i.Sectors += 8 }), "inode_i_sectors_wrong×1"},
	{"size before the last extent", "plain", file(func(i *ondisk.Inode) { i.Size = 1 }), "extent_past_end_of_inode×1"},
	{"nlink of a file with one name", "plain", file(func(i *ondisk.Inode) { i.Nlink = 1 }), "inode_wrong_nlink×1"},
	{"nlink of a file with names", "plain", func(v *volume) { v.inode(hardlinked, func(i *ondisk.Inode) { i.Nlink++ }) }, "inode_wrong_nlink×1"},
	{"nlink 0 of a file with names", "plain", func(v *volume) { v.inode(hardlinked, func(i *ondisk.Inode) { i.Nlink = 0 }) }, "inode_multiple_links_but_nlink_0×1"},
	{"nlink of a directory", "plain", dir(func(i *ondisk.Inode) { i.Nlink++ }), "inode_dir_wrong_nlink×1"},
	{"file that points back elsewhere", "plain", file(func(i *ondisk.Inode) { i.DirOffset++ }), "inode_points_to_missing_dirent×1"},
	{"file that points back at another's", "plain", func(v *volume) {
		_, other := v.fileKV(hardlinked)
		v.inode(isFile, func(i *ondisk.Inode) { i.Dir, i.DirOffset = other.Dir, other.DirOffset })
	}, "inode_points_to_wrong_dirent×1"},
	{"directory that points back elsewhere", "plain", dir(func(i *ondisk.Inode) { i.DirOffset++ }), "inode_points_to_missing_dirent×1"},
	{"directory that does not point back", "plain", dir(func(i *ondisk.Inode) { i.Dir, i.DirOffset = 0, 0 }), "inode_dir_missing_backpointer×1"},
	{"unlinked file with a name", "plain", file(func(i *ondisk.Inode) { i.Flags |= ondisk.InodeUnlinked }), "inode_unlinked_but_has_dirent×1 unlinked_inode_not_on_deleted_list×1"},
	{"unlinked directory with entries", "plain", dir(func(i *ondisk.Inode) { i.Flags |= ondisk.InodeUnlinked }), "inode_dir_unlinked_but_not_empty×1 inode_unlinked_but_has_dirent×1 inode_unlinked_but_nlink_nonzero×1 unlinked_inode_not_on_deleted_list×1"},
	{"directory with a size", "plain", dir(func(i *ondisk.Inode) { i.Size = 8 }), "inode_dir_has_nonzero_i_size×1"},
	{"dirty size", "plain", file(func(i *ondisk.Inode) { i.Flags |= ondisk.InodeISizeDirty }), "inode_i_size_dirty_but_clean×1"},
	{"dirty sectors", "plain", file(func(i *ondisk.Inode) { i.Flags |= ondisk.InodeISectorsDirty }), "inode_i_sectors_dirty_but_clean×1"},
	{"journal seq", "plain", file(func(i *ondisk.Inode) { i.JournalSeq = 1 << 40 }), "inode_journal_seq_in_future×1"},
	{"seed of a directory", "plain", dir(func(i *ondisk.Inode) { i.HashSeed++ }), "hash_table_key_wrong_offset×1"},
	{"subvolume", "plain", dir(func(i *ondisk.Inode) { i.Subvol = 77 }), "dirent_d_type_wrong×1 inode_bi_subvol_missing×1"},
	{"parent subvolume", "plain", file(func(i *ondisk.Inode) { i.ParentSubvol = 1 }), "inode_bi_parent_nonzero×1"},
	{"mode of a directory", "plain", dir(func(i *ondisk.Inode) { i.Mode = i.Mode&0o7777 | ondisk.ModeRegular }), "dirent_d_type_wrong×1 inode_wrong_nlink×1 key_in_wrong_inode_type×1"},
	{"mode of no type", "plain", file(func(i *ondisk.Inode) { i.Mode &= 0o7777 }), "dirent_d_type_wrong×1 key_in_wrong_inode_type×1"},
	{"flag has_child_snapshot", "snapshots", func(v *volume) {
		v.inode(func(i *ondisk.Inode, kv ondisk.KV) bool { return i.Flags&ondisk.InodeHasChildSnapshot != 0 }, func(i *ondisk.Inode) { i.Flags &^= ondisk.InodeHasChildSnapshot })
	}, "inode_has_child_snapshots_wrong×1"},
	{"flag has_child_snapshot without", "plain", file(func(i *ondisk.Inode) { i.Flags |= ondisk.InodeHasChildSnapshot }), "inode_has_child_snapshots_wrong×1"},
	{"seed of one version", "snapshots", func(v *volume) {
		v.inode(func(i *ondisk.Inode, kv ondisk.KV) bool {
			return i.IsRegular() && i.Flags&ondisk.InodeHasChildSnapshot != 0
		}, func(i *ondisk.Inode) { i.HashSeed++ })
	}, "inode_snapshot_mismatch×4"},
	{"file without an inode", "plain", func(v *volume) {
		kv, _ := v.fileKV(isFile)
		v.del(ondisk.BtreeInodes, kv)
	}, "accounting_mismatch×1 dirent_to_missing_inode×1 key_in_missing_inode×1"},
	{"inode of nothing", "plain", func(v *volume) {
		kv, _ := v.fileKV(isFile)
		kv.Pos.Offset = 1 << 40
		v.set(ondisk.BtreeInodes, kv)
	}, "accounting_mismatch×1 inode_i_sectors_wrong×1 inode_points_to_wrong_dirent×1"},
	{"root directory missing", "plain", func(v *volume) {
		v.del(ondisk.BtreeInodes, ondisk.KV{Key: ondisk.Key{Pos: pos(0, 4096, ^uint32(0))}})
	}, "accounting_mismatch×1 key_in_missing_inode×1 root_dir_missing×1"},
	{"flag of options", "v39plain", file(func(i *ondisk.Inode) { i.Flags ^= ondisk.InodeHasInodeOpts }), "inode_has_inode_opts_flag_wrong×1"},
	{"flag of an ACL", "v39plain", file(func(i *ondisk.Inode) { i.Flags ^= ondisk.InodeHasAccessACL }), "inode_has_access_acl_flag_wrong×1"},
	{"flag of a default ACL", "v39plain", dir(func(i *ondisk.Inode) { i.Flags ^= ondisk.InodeHasDefaultACL }), "inode_has_default_acl_flag_wrong×1"},
	{"directories in a loop", "plain", func(v *volume) {
		// A directory two levels down is moved below one that it holds.
		a, ai := v.fileKV(func(i *ondisk.Inode, kv ondisk.KV) bool { return i.IsDir() && i.Dir == 4096 && i.Nlink > 0 })
		b, bi := v.fileKV(func(i *ondisk.Inode, kv ondisk.KV) bool { return i.IsDir() && i.Dir == a.Pos.Offset })
		old := v.find(ondisk.BtreeDirents, func(kv ondisk.KV) bool { return kv.Pos.Inode == ai.Dir && kv.Pos.Offset == ai.DirOffset })
		d, _ := ondisk.DecodeDirent(old)
		v.del(ondisk.BtreeDirents, old)
		slot := strhash.DirentSlot(bi.StrHash, bi.HashSeed, false, d.Name)
		old.Pos.Inode, old.Pos.Offset = b.Pos.Offset, slot
		v.set(ondisk.BtreeDirents, old)
		ai.Dir, ai.DirOffset = b.Pos.Offset, slot
		a.Val = ai.Append(nil)
		v.set(ondisk.BtreeInodes, a)
		bi.Nlink++
		b.Val = bi.Append(nil)
		v.set(ondisk.BtreeInodes, b)
		v.inode(func(i *ondisk.Inode, kv ondisk.KV) bool { return kv.Pos.Offset == 4096 }, func(i *ondisk.Inode) { i.Nlink-- })
	}, "dir_loop×1"},
	{"deleted inode that is not unlinked", "plain", func(v *volume) {
		kv, _ := v.fileKV(isFile)
		v.set(ondisk.BtreeDeletedInodes, set(kv.Pos))
	}, "deleted_inode_not_unlinked×1"},
	{"deleted inode of nothing", "plain", addKeys(ondisk.BtreeDeletedInodes, set(pos(0, 1<<40, ^uint32(0)))), "deleted_inode_missing×1"},
	{"deleted inode not listed", "v39plain", func(v *volume) {
		v.del(ondisk.BtreeDeletedInodes, v.find(ondisk.BtreeDeletedInodes, anyKey))
	}, "deleted_inode_but_clean×-1 unlinked_inode_not_on_deleted_list×1"},
}

var direntMistakes = []mistake{
	{"type", "plain", func(v *volume) { v.dirent(dtype(8), func(d *ondisk.Dirent, _ *ondisk.KV) { d.Type = 10 }) }, "dirent_d_type_wrong×1"},
	{"type of a directory", "plain", func(v *volume) { v.dirent(dtype(4), func(d *ondisk.Dirent, _ *ondisk.KV) { d.Type = 8 }) }, "dirent_d_type_wrong×1 inode_dir_wrong_nlink×1"},
	{"type of no meaning", "plain", func(v *volume) { v.dirent(dtype(8), func(d *ondisk.Dirent, _ *ondisk.KV) { d.Type = 3 }) }, "dirent_d_type_wrong×1"},
	{"target missing", "plain", func(v *volume) { v.dirent(dtype(8), func(d *ondisk.Dirent, _ *ondisk.KV) { d.Inum = 1 << 40 }) }, "dirent_to_missing_inode×1 inode_points_to_wrong_dirent×1"},
	{"slot", "plain", func(v *volume) {
		v.dirent(dtype(8), func(_ *ondisk.Dirent, kv *ondisk.KV) { kv.Pos.Offset += 1 << 40 })
	}, "hash_table_key_wrong_offset×1 inode_points_to_missing_dirent×1"},
	{"another name", "plain", func(v *volume) { v.dirent(dtype(8), func(d *ondisk.Dirent, _ *ondisk.KV) { d.Name[0] ^= 1 }) }, "hash_table_key_wrong_offset×1"},
	{"dirent missing", "plain", func(v *volume) {
		_, i := v.fileKV(isFile)
		v.del(ondisk.BtreeDirents, ondisk.KV{Key: ondisk.Key{Pos: pos(i.Dir, i.DirOffset, ^uint32(0))}})
	}, "inode_points_to_missing_dirent×1"},
	{"name twice", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeDirents, func(kv ondisk.KV) bool {
			d, err := ondisk.DecodeDirent(kv)
			return err == nil && d.Type == 8
		})
		kv.Pos.Offset++
		v.set(ondisk.BtreeDirents, kv)
	}, "hash_table_key_duplicate×1 inode_multiple_links_but_nlink_0×1"},
	{"in no directory", "plain", func(v *volume) { v.dirent(dtype(8), func(_ *ondisk.Dirent, kv *ondisk.KV) { kv.Pos.Inode = 1 << 40 }) }, "inode_points_to_missing_dirent×1 key_in_missing_inode×1"},
	{"in a file", "plain", func(v *volume) {
		f, _ := v.fileKV(isFile)
		v.dirent(dtype(8), func(d *ondisk.Dirent, kv *ondisk.KV) { kv.Pos.Inode = f.Pos.Offset })
	}, "inode_points_to_missing_dirent×1 key_in_wrong_inode_type×1"},
	{"name with a slash", "plain", func(v *volume) { v.dirent(dtype(8), func(d *ondisk.Dirent, _ *ondisk.KV) { d.Name[0] = '/' }) }, "dirent_name_has_slash×1 hash_table_key_wrong_offset×1"},
	{"to its own directory", "plain", func(v *volume) {
		v.dirent(dtype(4), func(d *ondisk.Dirent, kv *ondisk.KV) { d.Inum = kv.Pos.Inode })
	}, "dirent_d_type_wrong×1 dirent_to_itself×1 inode_points_to_wrong_dirent×1"},
	{"subvolume missing", "snapshots", func(v *volume) {
		v.dirent(dtype(ondisk.DTSubvol), func(d *ondisk.Dirent, _ *ondisk.KV) { d.ChildSubvol = 77 })
	}, "dirent_to_missing_subvol×1 inode_points_to_wrong_dirent×1"},
	{"another's subvolume", "snapshots", func(v *volume) {
		v.dirent(func(d *ondisk.Dirent, _ ondisk.KV) bool { return d.Type == ondisk.DTSubvol && d.ChildSubvol == 9 }, func(d *ondisk.Dirent, _ *ondisk.KV) { d.ChildSubvol = 8 })
	}, "inode_dir_multiple_links×1 inode_points_to_wrong_dirent×1"},
	{"parent subvolume missing", "snapshots", func(v *volume) {
		v.dirent(dtype(ondisk.DTSubvol), func(d *ondisk.Dirent, _ *ondisk.KV) { d.ParentSubvol = 77 })
	}, "dirent_to_missing_parent_subvol×1 subvol_fs_path_parent_wrong×1"},
	{"parent subvolume that does not see it", "snapshots", func(v *volume) {
		v.dirent(func(d *ondisk.Dirent, _ ondisk.KV) bool { return d.Type == ondisk.DTSubvol && d.ChildSubvol == 9 }, func(d *ondisk.Dirent, _ *ondisk.KV) { d.ParentSubvol = 2 })
	}, "dirent_not_visible_in_parent_subvol×1 subvol_fs_path_parent_wrong×1"},
	{"folded name", "v39casefold", func(v *volume) {
		v.dirent(func(d *ondisk.Dirent, _ ondisk.KV) bool { return d.Casefold }, func(d *ondisk.Dirent, _ *ondisk.KV) { d.CfName[0] ^= 1 })
	}, "dirent_casefold_mismatch×1"},
	{"name that is not folded", "v39casefold", func(v *volume) {
		v.dirent(func(d *ondisk.Dirent, _ ondisk.KV) bool { return d.Casefold }, func(d *ondisk.Dirent, _ *ondisk.KV) { d.Casefold, d.CfName = false, nil })
	}, "accounting_mismatch×1 dirent_casefold_mismatch×1"},
	{"directory that does not fold", "v39casefold", func(v *volume) {
		v.inode(func(_ *ondisk.Inode, kv ondisk.KV) bool { return kv.Pos.Offset == 4096 }, func(i *ondisk.Inode) { i.Casefold = 1 })
	}, "accounting_mismatch×1 dirent_casefold_mismatch×3 inode_has_inode_opts_flag_wrong×1"},
	{"flag has_case_insensitive", "v39casefold", func(v *volume) {
		v.inode(func(i *ondisk.Inode, _ ondisk.KV) bool { return i.IsDir() && i.Dir == 4096 }, func(i *ondisk.Inode) { i.Flags &^= ondisk.InodeHasCaseInsensitive })
	}, "inode_has_case_insensitive_not_set×1"},
}

var xattrMistakes = []mistake{
	{"xattr slot", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeXattrs, anyKey)
		v.del(ondisk.BtreeXattrs, kv)
		kv.Pos.Offset += 1 << 40
		v.set(ondisk.BtreeXattrs, kv)
	}, "hash_table_key_wrong_offset×1"},
	{"xattr name twice", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeXattrs, anyKey)
		kv.Pos.Offset++
		v.set(ondisk.BtreeXattrs, kv)
	}, "hash_table_key_duplicate×1"},
	{"xattr of no inode", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeXattrs, anyKey)
		v.del(ondisk.BtreeXattrs, kv)
		kv.Pos.Inode = 1 << 40
		v.set(ondisk.BtreeXattrs, kv)
	}, "key_in_missing_inode×1"},
	{"xattr type", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeXattrs, anyKey)
		kv.Val[0] = 77
		v.set(ondisk.BtreeXattrs, kv)
	}, "hash_table_key_wrong_offset×1 xattr_invalid_type×1"},
	{"xattr ACL", "aclquota", func(v *volume) {
		kv := v.find(ondisk.BtreeXattrs, func(kv ondisk.KV) bool {
			x, err := ondisk.DecodeXattr(kv)
			return err == nil && x.Type == ondisk.XattrACLAccess
		})
		x, _ := ondisk.DecodeXattr(kv)
		x.Value = append([]byte{}, x.Value...)
		x.Value[0] = 9
		kv.Val = x.Append(nil)
		v.set(ondisk.BtreeXattrs, kv)
	}, "xattr_acl_invalid×1"},
}

// TestInodeMistakes, TestDirentMistakes and TestXattrMistakes: files by their
// names.
func TestInodeMistakes(t *testing.T)  { plantAll(t, inodeMistakes) }
func TestDirentMistakes(t *testing.T) { plantAll(t, direntMistakes) }
func TestXattrMistakes(t *testing.T)  { plantAll(t, xattrMistakes) }
