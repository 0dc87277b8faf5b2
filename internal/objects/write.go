package objects

import (
	"context"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/alloc"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/casefold"
	"github.com/gobcachefs/gobcachefs/internal/data"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/snapshots"
	"github.com/gobcachefs/gobcachefs/internal/strhash"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Writer changes files. Each operation is one transaction (chapter 04 section
// 12). Safe for concurrent use.
type Writer struct {
	*FS
	Store *btree.Store
	WS    *members.WriteSet
	Bytes *data.Writer
	point *alloc.Point
	now   func() time.Time
	seed  func() uint64

	hint atomic.Uint64 // next inode number to try
}

// NewWriter makes a writer.
func NewWriter(f *FS, store *btree.Store, ws *members.WriteSet, d *data.Writer, a *alloc.Allocator, now func() time.Time, seed func() uint64) *Writer {
	w := &Writer{FS: f, Store: store, WS: ws, Bytes: d, point: a.NewPoint(), now: now, seed: seed}
	w.hint.Store(snapshots.RootInode + 1)
	return w
}

// Now is the present in the units of inodes.
func (w *Writer) Now() int64 { return w.Stored(w.now()) }

// Stored converts a time to the units of inodes.
func (w *Writer) Stored(t time.Time) int64 {
	sb := w.set.SB
	return ondisk.TimeFromUnix(t.Unix(), uint32(t.Nanosecond()), sb.TimeBaseLo, sb.TimePrecision)
}

// op is an operation inside a transaction, in one subvolume.
type op struct {
	w   *Writer
	tx  *btree.Tx
	sub uint32
	v   *btree.View
	now int64
}

// update runs an operation.
func (w *Writer) update(ctx context.Context, name string, subvol uint32, fn func(*op) error) (uint64, error) {
	return w.Store.Update(ctx, name, func(tx *btree.Tx) error {
		// The subvolume is read in the transaction: a snapshot that is taken
		// meanwhile makes it start again, in the new leaf.
		s, v, err := w.leafView(tx, subvol)
		if err != nil {
			return err
		}
		if s.ReadOnly() || s.LiveState() != ondisk.SubvolStateLive {
			return syscall.EROFS
		}
		return fn(&op{w: w, tx: tx, sub: subvol, v: v, now: w.Now()})
	})
}

// leafView reads a subvolume and makes the view of the snapshot it writes to.
func (w *Writer) leafView(tx *btree.Tx, subvol uint32) (ondisk.Subvolume, *btree.View, error) {
	kv, ok, err := tx.Get(ondisk.BtreeSubvolumes, ondisk.Pos{Offset: uint64(subvol)})
	if err != nil {
		return ondisk.Subvolume{}, nil, err
	}
	if !ok || kv.Type != ondisk.KeySubvolume {
		return ondisk.Subvolume{}, nil, syscall.ENOENT
	}
	s, err := ondisk.DecodeSubvolume(kv.Val)
	if err != nil {
		return s, nil, err
	}
	if v, err := w.Snapshots().View(subvol); err == nil && v.ID == s.Snapshot {
		return s, v, nil
	}
	var anc []uint32
	for id := s.Snapshot; ; {
		n, err := getSnapshot(tx, id)
		if err != nil {
			return s, nil, err
		}
		if n.Parent == 0 {
			return s, btree.NewView(s.Snapshot, anc), nil
		}
		if n.Parent <= id {
			return s, nil, errs.Corruptf("snapshot_parent_bad", "snapshot %d has parent %d", id, n.Parent)
		}
		id = n.Parent
		anc = append(anc, id)
	}
}

// inode reads an inode in the transaction.
func (o *op) inode(inum uint64) (ondisk.Inode, error) {
	kv, ok, err := o.tx.GetVisible(ondisk.BtreeInodes, o.v, 0, inum)
	if err != nil {
		return ondisk.Inode{}, err
	}
	if !ok || kv.Type == ondisk.KeyInodeGeneration {
		return ondisk.Inode{}, syscall.ENOENT
	}
	return ondisk.DecodeInode(kv)
}

// dir is inode for something that must be a directory.
func (o *op) dir(inum uint64) (ondisk.Inode, error) {
	in, err := o.inode(inum)
	if err == nil && !in.IsDir() {
		err = syscall.ENOTDIR
	}
	return in, err
}

func isInodeKey(t ondisk.KeyType) bool {
	return t == ondisk.KeyInode || t == ondisk.KeyInodeV2 || t == ondisk.KeyInodeV3
}

// putInode stores an inode in the operation's snapshot. The first version of an
// inode in a snapshot flags the version it descends from (chapter 04 section 11).
func (o *op) putInode(inum uint64, in *ondisk.Inode) error {
	p := ondisk.Pos{Offset: inum, Snapshot: o.v.ID}
	in.Flags &^= ondisk.InodeHasChildSnapshot
	if o.v.HasAncestors() {
		kv, ok, err := o.tx.Get(ondisk.BtreeInodes, p)
		if err != nil {
			return err
		}
		if !ok || !isInodeKey(kv.Type) {
			if err := o.flagAncestor(p); err != nil {
				return err
			}
		}
	}
	o.tx.Set(ondisk.BtreeInodes, ondisk.KV{Key: ondisk.Key{Pos: p, Type: ondisk.KeyInodeV3}, Val: in.Append(nil)})
	return nil
}

// ancestor finds the nearest version of an inode above p.
func (o *op) ancestor(p ondisk.Pos) (ondisk.KV, bool, error) {
	for at := p.Successor(); ; {
		k, ok, err := o.tx.Next(ondisk.BtreeInodes, at, ondisk.Pos{Offset: p.Offset, Snapshot: ^uint32(0)})
		if err != nil || !ok {
			return k, false, err
		}
		if o.v.Sees(k.Pos.Snapshot) && isInodeKey(k.Type) {
			return k, true, nil
		}
		at = k.Pos.Successor()
	}
}

func (o *op) flagAncestor(p ondisk.Pos) error {
	k, ok, err := o.ancestor(p)
	if err != nil || !ok {
		return err
	}
	a, err := ondisk.DecodeInode(k)
	if err != nil || a.Flags&ondisk.InodeHasChildSnapshot != 0 {
		return err
	}
	a.Flags |= ondisk.InodeHasChildSnapshot
	k.Type, k.Val = ondisk.KeyInodeV3, a.Append(nil)
	o.tx.Set(ondisk.BtreeInodes, k)
	return nil
}

// newInum finds an inode number without a key in any snapshot.
func (o *op) newInum() (uint64, error) {
	const top = 1<<31 - 1
	for range 1 << 20 {
		n := o.w.hint.Add(1)
		if n >= top {
			o.w.hint.Store(snapshots.RootInode)
			continue
		}
		_, ok, err := o.tx.Next(ondisk.BtreeInodes, ondisk.Pos{Offset: n}, ondisk.Pos{Offset: n, Snapshot: ^uint32(0)})
		if err != nil {
			return 0, err
		}
		if !ok {
			return n, nil
		}
	}
	return 0, syscall.ENOSPC
}

// fold gives the form of a name that is hashed and compared.
func (o *op) fold(dir *ondisk.Inode, name []byte) (key []byte, folded bool, err error) {
	if !o.w.Casefolded(dir) {
		return name, false, nil
	}
	key, err = casefold.Fold(nil, name)
	return key, true, err
}

// CheckName says whether a name can be given to a file.
func CheckName(name []byte) error {
	switch {
	case len(name) == 0:
		return syscall.ENOENT
	case len(name) > 255:
		return syscall.ENAMETOOLONG
	case string(name) == "." || string(name) == "..":
		return syscall.EEXIST
	}
	for _, c := range name {
		if c == 0 || c == '/' {
			return syscall.EINVAL
		}
	}
	return nil
}

func direntSlot(dir *ondisk.Inode, key []byte) uint64 {
	return strhash.DirentSlot(dir.StrHash, dir.HashSeed, dir.Flags&ondisk.Inode31bitDirentOffset != 0, key)
}

// findDirent walks the chain of a name (chapter 04 section 3.1). free is the
// slot where a new entry would go.
func (o *op) findDirent(inum uint64, dir *ondisk.Inode, key []byte) (kv ondisk.KV, d ondisk.Dirent, found bool, free uint64, err error) {
	slot := direntSlot(dir, key)
	haveFree := false
	w := o.tx.Visible(ondisk.BtreeDirents, o.v, ondisk.Pos{Inode: inum, Offset: slot}, ondisk.Pos{Inode: inum, Offset: ^uint64(0)})
	for {
		k, ok := w.Next()
		if err := w.Err(); err != nil {
			return kv, d, false, 0, err
		}
		if !ok || k.Pos.Offset != slot {
			if !haveFree {
				free = slot
			}
			return kv, d, false, free, nil
		}
		entry := k.Type == ondisk.KeyDirent
		if entry {
			if d, err = ondisk.DecodeDirent(k); err != nil {
				return kv, d, false, 0, errs.At(err, direntPlace(k))
			}
			if d.Type == ondisk.DTSubvol && d.ParentSubvol != o.sub {
				entry = false
				if !haveFree {
					free = slot
				}
				return kv, d, false, free, nil
			}
			if string(d.HashedName()) == string(key) {
				return k, d, true, k.Pos.Offset, nil
			}
		}
		if !entry && !haveFree {
			free, haveFree = slot, true
		}
		slot++
	}
}

// addDirent enters a name that must not exist and gives its slot.
func (o *op) addDirent(inum uint64, dir *ondisk.Inode, name []byte, d ondisk.Dirent) (uint64, error) {
	key, folded, err := o.fold(dir, name)
	if err != nil {
		return 0, err
	}
	_, _, found, free, err := o.findDirent(inum, dir, key)
	if err != nil {
		return 0, err
	}
	if found {
		return 0, syscall.EEXIST
	}
	d.Name = name
	if folded {
		d.Casefold, d.CfName = true, key
	}
	o.tx.Set(ondisk.BtreeDirents, ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Inode: inum, Offset: free, Snapshot: o.v.ID}, Type: ondisk.KeyDirent}, Val: d.Append(nil)})
	return free, nil
}

// delHashed removes the entry at a slot of a hash table; hashOf gives the slot
// that an entry would want.
func (o *op) delHashed(b ondisk.BtreeID, inum, slot uint64, hashOf func(ondisk.KV) (uint64, bool)) error {
	w := o.tx.Visible(b, o.v, ondisk.Pos{Inode: inum, Offset: slot + 1}, ondisk.Pos{Inode: inum, Offset: ^uint64(0)})
	for next := slot + 1; ; next++ {
		k, ok := w.Next()
		if err := w.Err(); err != nil {
			return err
		}
		if !ok || k.Pos.Offset != next {
			return data.DeleteKey(o.tx, b, o.v, inum, slot)
		}
		if k.Type == ondisk.KeyHashWhiteout {
			continue
		}
		h, entry := hashOf(k)
		if !entry {
			return data.DeleteKey(o.tx, b, o.v, inum, slot)
		}
		if h <= slot {
			// A later entry's chain runs through this slot.
			o.tx.Set(b, ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Inode: inum, Offset: slot, Snapshot: o.v.ID}, Type: ondisk.KeyHashWhiteout}})
			return nil
		}
	}
}

// delDirent removes the name at a slot.
func (o *op) delDirent(inum uint64, dir *ondisk.Inode, slot uint64) error {
	return o.delHashed(ondisk.BtreeDirents, inum, slot, func(k ondisk.KV) (uint64, bool) {
		d, err := ondisk.DecodeDirent(k)
		if k.Type != ondisk.KeyDirent || err != nil || d.Type == ondisk.DTSubvol && d.ParentSubvol != o.sub {
			return 0, false
		}
		return direntSlot(dir, d.HashedName()), true
	})
}

// isEmpty reports whether a directory has no visible entries.
func (o *op) isEmpty(inum uint64) (bool, error) {
	w := o.tx.Visible(ondisk.BtreeDirents, o.v, ondisk.Pos{Inode: inum}, ondisk.Pos{Inode: inum, Offset: ^uint64(0)})
	for {
		k, ok := w.Next()
		if !ok {
			return true, w.Err()
		}
		if k.Type != ondisk.KeyDirent {
			continue
		}
		d, err := ondisk.DecodeDirent(k)
		if err != nil {
			return false, err
		}
		if d.Type != ondisk.DTSubvol || d.ParentSubvol == o.sub {
			return false, nil
		}
	}
}

// inherit copies the options that a new inode has from its directory.
func inherit(in, dir *ondisk.Inode) {
	for id := range ondisk.NrInodeOpts {
		if id == ondisk.InodeOptCasefold && !in.IsDir() {
			continue
		}
		in.SetOpt(id, dir.Opt(id))
	}
	in.FieldsSet = 0
}

// Spec describes a file to create. Zero times are now.
type Spec struct {
	Mode                       uint16 // with type
	UID, GID                   uint32
	RdevMajor, RdevMinor       uint32
	Atime, Mtime, Ctime, Otime time.Time
	Target                     []byte // of a symlink
	Xattrs                     []Xattr
	Size                       uint64
	HashSeed                   uint64 // 0 for one that cannot be guessed
	// Data are extents that were written already (snapshot and inode are filled
	// in), Inline data that goes into the key.
	Data   []ondisk.KV
	Inline []byte
	// Inherit makes the file as a system call would: a directory with the setgid
	// bit gives its group, one with a default ACL its ACLs, and only without one
	// Umask is taken off the mode. Else everything is as said, for copies.
	Inherit bool
	Umask   uint16
}

// Xattr is an extended attribute by its full name; POSIX ACLs have the form of
// the system calls.
type Xattr struct {
	Name  string
	Value []byte
}

// create makes a file in a directory whose inode the caller stores afterwards.
func (o *op) create(dirNum uint64, dir *ondisk.Inode, name []byte, s *Spec) (uint64, ondisk.Inode, error) {
	if err := CheckName(name); err != nil {
		return 0, ondisk.Inode{}, err
	}
	if err := mayEnter(dir); err != nil {
		return 0, ondisk.Inode{}, err
	}
	inum, err := o.newInum()
	if err != nil {
		return 0, ondisk.Inode{}, err
	}
	in, err := o.newInode(inum, dirNum, dir, s)
	if err != nil {
		return 0, in, err
	}
	if in.IsDir() {
		dir.Nlink++
	}
	d := ondisk.Dirent{Type: uint8(in.Mode >> 12), Inum: inum}
	slot, err := o.addDirent(dirNum, dir, name, d)
	if err != nil {
		return 0, in, err
	}
	in.Dir, in.DirOffset = dirNum, slot
	return inum, in, o.putInode(inum, &in)
}

// newInode makes an inode for a directory, with data and attributes, but without
// a name. The caller stores it.
func (o *op) newInode(inum, dirNum uint64, dir *ondisk.Inode, s *Spec) (ondisk.Inode, error) {
	t := func(x time.Time) int64 {
		if x.IsZero() {
			return o.now
		}
		return o.w.Stored(x)
	}
	seed := s.HashSeed
	if seed == 0 {
		seed = o.w.seed()
	}
	in := ondisk.Inode{HashSeed: seed, Mode: s.Mode, StrHash: uint8(o.w.set.SB.StrHashType()), UID: s.UID, GID: s.GID,
		Atime: t(s.Atime), Mtime: t(s.Mtime), Ctime: t(s.Ctime), Otime: t(s.Otime), Size: s.Size}
	inherit(&in, dir)
	switch in.Mode & ondisk.ModeTypeMask {
	case ondisk.ModeChar, ondisk.ModeBlock:
		in.SetDeviceNumber(s.RdevMajor, s.RdevMinor)
	case ondisk.ModeDir:
		in.Size = 0
	case ondisk.ModeSymlink:
		in.Size = uint64(len(s.Target))
	}
	if s.Inherit {
		if err := o.inheritPosix(inum, &in, dirNum, dir, s.Umask); err != nil {
			return in, err
		}
	}
	inline := s.Inline
	if in.IsSymlink() && s.Data == nil {
		inline = s.Target
	}
	if len(inline) > ondisk.MaxValBytes {
		return in, syscall.ENAMETOOLONG // a target that long must come as Data
	}
	if len(inline) > 0 {
		in.Sectors += o.inline(inum, inline)
	}
	in.Sectors += o.putExtents(inum, s.Data)
	for _, x := range s.Xattrs {
		if err := o.setXattr(inum, &in, x.Name, x.Value, 0); err != nil {
			return in, err
		}
	}
	return in, nil
}

// inline stores the whole data of a small file in a key.
func (o *op) inline(inum uint64, p []byte) uint64 {
	block := uint64(o.w.Bytes.Block())
	size := (uint64(len(p)) + block - 1) / block * block / 512
	val := append([]byte(nil), p...)
	val = append(val, make([]byte, (8-len(val)%8)%8)...)
	o.tx.Set(ondisk.BtreeExtents, ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Inode: inum, Offset: size, Snapshot: o.v.ID}, Size: uint32(size), Type: ondisk.KeyInlineData}, Val: val})
	return size
}

// InlineMax is the largest file whose data goes into its key, in bytes.
func (w *Writer) InlineMax() int { return min(w.Bytes.Block()/2, 1024) }

// Create makes a file. The error is EEXIST when the name is taken.
func (w *Writer) Create(ctx context.Context, dir ID, name []byte, s Spec) (id ID, seq uint64, err error) {
	seq, err = w.update(ctx, "create", dir.Subvol, func(o *op) error {
		d, err := o.dir(dir.Inum)
		if err != nil {
			return err
		}
		inum, _, err := o.create(dir.Inum, &d, name, &s)
		if err != nil {
			return err
		}
		id = ID{dir.Subvol, inum}
		d.Mtime, d.Ctime = o.now, o.now
		return o.putInode(dir.Inum, &d)
	})
	return id, seq, err
}
