package engine

import (
	"context"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/consequence"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/internal/snapshots"
	"github.com/gobcachefs/gobcachefs/internal/strhash"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Initialize makes the first contents of a volume of which only the superblocks
// exist (chapter 03 section 10.4, chapter 04 section 16): the state of all
// buckets, the root snapshot and subvolume, the root directory and lost+found.
func Initialize(ctx context.Context, readers []block.Reader, o WriteOptions) (*RW, error) {
	if o.Members.Warn == nil {
		o.Members.Warn = func(error) {}
	}
	set, err := members.Open(ctx, readers, o.Members)
	if err != nil {
		return nil, err
	}
	state := &journal.State{Roots: map[ondisk.BtreeID]journal.Root{}, Overlay: journal.NewOverlay()}
	rw, err := start(ctx, set, state, o)
	if err != nil {
		return nil, err
	}
	// All members get their free space before anything may be put on any of them.
	for _, f := range []func(context.Context, int) error{rw.initFree, rw.initMarks} {
		for i, d := range set.Devs {
			if d.Online() {
				if err := f(ctx, i); err != nil {
					return nil, err
				}
			}
		}
	}
	if err := rw.initFiles(ctx); err != nil {
		return nil, err
	}
	err = rw.WS.Update(ctx, func(sb *ondisk.Superblock) error {
		sb.SetInitialized(true)
		sb.SetVersionUpgradeComplete(sb.Version)
		sb.SetCompat(ondisk.CompatExtentsAboveBtreeUpdatesDone, true)
		sb.SetCompat(ondisk.CompatBformatOverflowDone, true)
		ms, err := sb.Members()
		if err != nil {
			return err
		}
		for i := range ms {
			ms[i].SetFreespaceInitialized(true)
		}
		return sb.SetMembers(ms, sb.MemberStride())
	})
	if err != nil {
		return nil, err
	}
	if rw.Snaps, err = snapshots.Load(ctx, rw.Trees, o.Members.Warn); err != nil {
		return nil, err
	}
	rw.Files = objects.New(set, rw.Trees, rw.Snaps, rw.Data)
	return rw, nil
}

// initFree makes all buckets of a member free. Those that initMarks will mark are
// kept from being taken until then.
func (rw *RW) initFree(ctx context.Context, dev int) error {
	d := rw.Set.Devs[dev]
	m := &d.Member
	marks, err := initialMarks(d)
	if err != nil {
		return err
	}
	for _, x := range marks {
		rw.Alloc.Keep(uint8(dev), x.b)
	}
	_, err = rw.Store.Update(ctx, "init device", func(tx *btree.Tx) error {
		n := m.NBuckets - uint64(m.FirstBucket)
		tx.Set(ondisk.BtreeFreespace, ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Inode: uint64(dev), Offset: m.NBuckets}, Size: uint32(n), Type: ondisk.KeySet}})
		tx.Account(ondisk.AccountingPos{Type: ondisk.AccDevDataType, Dev: uint32(dev), DataType: ondisk.DataFree}, int64(n))
		return nil
	})
	return err
}

// mark is what a bucket of a new member holds.
type mark struct {
	b       uint64
	t       ondisk.DataType
	sectors uint32
}

// initialMarks lists the buckets of the superblocks and the journal of a member.
func initialMarks(d *members.Device) ([]mark, error) {
	var all []mark
	for _, x := range SuperBuckets(d.SB, &d.Member) {
		all = append(all, mark{x.Bucket, ondisk.DataSB, x.Sectors})
	}
	journalBuckets, err := d.SB.JournalBuckets()
	for _, b := range journalBuckets {
		all = append(all, mark{b, ondisk.DataJournal, uint32(d.Member.BucketSize)})
	}
	return all, err
}

// initMarks marks the buckets of a member's superblocks and journal.
func (rw *RW) initMarks(ctx context.Context, dev int) error {
	all, err := initialMarks(rw.Set.Devs[dev])
	if err != nil {
		return err
	}
	for len(all) > 0 {
		batch := all[:min(len(all), max(1, rw.J.MaxBody()/1000), 64)]
		all = all[len(batch):]
		_, err := rw.Store.Update(ctx, "mark superblock and journal", func(tx *btree.Tx) error {
			for _, x := range batch {
				tx.Bucket(consequence.Bucket{Dev: uint8(dev), Bucket: x.b}, func(a *ondisk.Alloc) { a.DataType, a.DirtySectors = x.t, x.sectors })
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// SuperBucket is a bucket that holds part of a superblock.
type SuperBucket struct {
	Bucket  uint64
	Sectors uint32
}

// SuperBuckets lists the buckets of a member's superblock copies with the sectors
// they take (chapter 01 section 1.2), ascending.
func SuperBuckets(sb *ondisk.Superblock, m *ondisk.Member) []SuperBucket {
	size := uint64(m.BucketSize)
	var out []SuperBucket
	add := func(start, end uint64) {
		for b := start / size; b < m.NBuckets && b*size < end; b++ {
			n := uint32(min(end, (b+1)*size) - max(start, b*size))
			if k := len(out); k > 0 && out[k-1].Bucket == b {
				out[k-1].Sectors += n
			} else {
				out = append(out, SuperBucket{b, n})
			}
		}
	}
	for i, off := range sb.Layout.Offsets {
		start := off
		if i == 0 && off == members.DefaultSector {
			start = 0
		}
		add(start, off+1<<sb.Layout.MaxSizeBits)
	}
	return out
}

const rootSnapshot = 1<<32 - 1

// initFiles makes the first subvolume with its root directory and lost+found.
func (rw *RW) initFiles(ctx context.Context) error {
	sb := rw.WS.Current()
	now := ondisk.TimeFromUnix(rw.WS.Now().Unix(), uint32(rw.WS.Now().Nanosecond()), sb.TimeBaseLo, sb.TimePrecision)
	const lost = snapshots.RootInode + 1
	dir := func(mode uint16) ondisk.Inode {
		return ondisk.Inode{HashSeed: rw.seed(), Mode: ondisk.ModeDir | mode, StrHash: uint8(sb.StrHashType()), Atime: now, Mtime: now, Ctime: now, Otime: now}
	}
	root := dir(0o755)
	root.Subvol, root.Nlink = snapshots.RootSubvol, 1
	lf := dir(0o700)
	slot := strhash.DirentSlot(root.StrHash, root.HashSeed, false, []byte("lost+found"))
	lf.Dir, lf.DirOffset = snapshots.RootInode, slot
	_, err := rw.Store.Update(ctx, "initialize", func(tx *btree.Tx) error {
		set := func(b ondisk.BtreeID, t ondisk.KeyType, inode, offset uint64, snap uint32, val []byte) {
			tx.Set(b, ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Inode: inode, Offset: offset, Snapshot: snap}, Type: t}, Val: val})
		}
		set(ondisk.BtreeSnapshotTrees, ondisk.KeySnapshotTree, 0, 1, 0, ondisk.SnapshotTree{MasterSubvol: 1, RootSnapshot: rootSnapshot}.Append(nil))
		set(ondisk.BtreeSnapshots, ondisk.KeySnapshot, 0, rootSnapshot, 0, ondisk.Snapshot{Flags: ondisk.SnapshotSubvol, Subvol: 1, Tree: 1}.Append(nil))
		set(ondisk.BtreeSubvolumes, ondisk.KeySubvolume, 0, 1, 0, ondisk.Subvolume{Snapshot: rootSnapshot, Inode: snapshots.RootInode}.Append(nil))
		set(ondisk.BtreeInodes, ondisk.KeyInodeV3, 0, snapshots.RootInode, rootSnapshot, root.Append(nil))
		set(ondisk.BtreeInodes, ondisk.KeyInodeV3, 0, lost, rootSnapshot, lf.Append(nil))
		set(ondisk.BtreeDirents, ondisk.KeyDirent, snapshots.RootInode, slot, rootSnapshot, ondisk.Dirent{Type: ondisk.DTDir, Inum: lost, Name: []byte("lost+found")}.Append(nil))
		return nil
	})
	return err
}
