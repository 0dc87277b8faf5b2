package engine

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/alloc"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/consequence"
	"github.com/gobcachefs/gobcachefs/internal/data"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/internal/snapshots"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// WriteOptions of OpenWrite.
type WriteOptions struct {
	Options
	// Now is the clock; nil for the real one.
	Now func() time.Time
	// Seed makes identities of btree nodes and hash seeds of inodes; nil for
	// unpredictable ones.
	Seed func() uint64
	// Without leaves out rules of package consequence. What is written then is
	// wrong: it is how tests show that the check finds it.
	Without map[string]bool
}

// RW is a volume opened to write.
type RW struct {
	*Engine
	WS    *members.WriteSet
	Store *btree.Store
	Alloc *alloc.Allocator
	J     *journal.Writer
	seed  func() uint64
}

// Writable says whether volumes of a version can be changed, and if not, why.
func Writable(sb *ondisk.Superblock) error {
	if sb.Version == ondisk.Version1_13 {
		return nil
	}
	return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrReadOnly, Reason: fmt.Sprintf("format version %v is read-only here", sb.Version), Cause: errs.ErrUnsupported}
}

// always are the features that a volume must have while it is not clean.
const always = 0x63200

// OpenWrite opens a volume to write: the journal of an unclean one is replayed.
// The volume is marked dirty on disk before this returns; Close makes it clean.
func OpenWrite(ctx context.Context, readers []block.Reader, o WriteOptions) (*RW, error) {
	if o.Members.Warn == nil {
		o.Members.Warn = func(error) {}
	}
	set, err := members.Open(ctx, readers, o.Members)
	if err != nil {
		return nil, err
	}
	if err := Writable(set.SB); err != nil {
		return nil, err
	}
	if !set.SB.Initialized() {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "the volume was never initialized"}
	}
	state, err := journal.Load(ctx, set)
	if err != nil {
		return nil, err
	}
	if err := whole(state); err != nil {
		return nil, err
	}
	rw, err := start(ctx, set, state, o)
	if err != nil {
		return nil, err
	}
	if rw.Snaps, err = snapshots.Load(ctx, rw.Trees, o.Members.Warn); err != nil {
		return nil, err
	}
	rw.Files = objects.New(set, rw.Trees, rw.Snaps, rw.Data)
	if !state.Clean {
		w := rw.Writer()
		defer w.Close()
		if err := w.Recover(ctx); err != nil {
			return nil, err
		}
	}
	return rw, nil
}

// whole refuses a state with a part missing: what is written on top of it would
// make the loss final.
func whole(state *journal.State) error {
	for b, r := range state.Roots {
		if r.Lost {
			return errs.Corruptf("btree_root_bkey_invalid", "the root of btree %v is lost: the volume must be repaired before it is written", b)
		}
	}
	if len(state.Missing) > 0 {
		return errs.Corruptf("journal_entries_missing", "entries %d-%d: the volume must be repaired before it is written", state.Missing[0].Start, state.Missing[0].End-1)
	}
	return nil
}

// start builds the writing engine in a journal state and marks the volume dirty.
func start(ctx context.Context, set *members.Set, state *journal.State, o WriteOptions) (*RW, error) {
	ws, err := members.NewWriteSet(set, o.Now)
	if err != nil {
		return nil, err
	}
	seed := o.Seed
	if seed == nil {
		seed = rand.Uint64
	}
	e := &Engine{Set: set, State: state}
	e.Trees = btree.New(set, state, btree.Config{CacheBytes: o.CacheBytes, Salvage: false, Warn: o.Members.Warn})
	caps := consequence.CapsOf(set.SB)
	caps.ExtentTypes = set.ExtentTypes
	caps.Without = o.Without
	store := btree.NewStore(e.Trees, ws, btree.StoreConfig{Caps: caps, Clock: state.Clock, Seed: seed})
	rw := &RW{Engine: e, WS: ws, Store: store, seed: seed}

	cfg := journal.WriterConfig{Durable: state.Seq, LastSeq: state.Seq, Copies: 1,
		Tail: journal.Tail{KeyVersion: state.KeyVersion, Clock: state.Clock, Datetime: true}}
	if r, ok := ondisk.FindOption("metadata_replicas"); ok {
		cfg.Copies = int(r.Effective(set.SB))
	}
	if state.Clean || state.Seq == 0 {
		cfg.NextSeq = state.Seq + 1
	} else {
		// Numbers that may have been used and lost are skipped (chapter 03 section 7).
		cfg.NextSeq = state.Seq + 1 + skip(set.SB.Version)
		cfg.Durable, cfg.LastSeq, cfg.Entries = state.Last, state.First, state.Entries
		cfg.Tail.KeyVersion += 65536
	}
	if n := len(state.Blacklist); n > 0 {
		cfg.NextSeq = max(cfg.NextSeq, state.Blacklist[n-1].End)
	}
	if rw.J, err = journal.NewWriter(ws, store.Lock(), store, cfg); err != nil {
		return nil, err
	}
	if err := store.Replay(ctx); err != nil {
		return nil, err
	}
	store.Attach(rw.J, nil)
	if rw.Alloc, err = alloc.New(ctx, ws, store); err != nil {
		return nil, err
	}
	store.Attach(rw.J, rw.Alloc)
	e.Gens = alloc.NewGens(set, e.Trees)
	e.Data = data.New(set, e.Trees, e.Gens)

	err = ws.Update(ctx, func(sb *ondisk.Superblock) error {
		sb.SetClean(false)
		sb.Features[0] |= always
		sb.SetFeature(ondisk.FeatureInlineData, true)
		for _, name := range []string{"compression", "background_compression"} {
			if o, ok := ondisk.FindOption(name); ok && o.Get(sb)&15 != 0 {
				sb.SetFeature(ondisk.FeatureIncompressible, true)
			}
		}
		if err := alloc.AddReplicas(sb, ondisk.DataJournal, 1, rw.J.Devices()); err != nil {
			return err
		}
		if !state.Clean && state.Seq != 0 {
			bl, err := sb.Blacklist()
			if err != nil {
				return err
			}
			sb.SetBlacklist(addRange(bl, ondisk.SeqRange{Start: state.Last + 1, End: cfg.NextSeq}))
			sb.SetFeature(ondisk.FeatureJournalSeqBlacklistV3, true)
		}
		ms, err := sb.Members()
		if err != nil {
			return err
		}
		for i, d := range set.Devs {
			if d.Online() {
				ms[i].LastMount = uint64(ws.Now().Unix())
			}
		}
		return sb.SetMembers(ms, sb.MemberStride())
	})
	if err != nil {
		return nil, err
	}
	// There must always be a valid flush entry beyond a blacklisted range.
	return rw, rw.J.Sync(ctx, cfg.NextSeq)
}

// skip is how many sequence numbers a recovery passes over.
func skip(v ondisk.Version) uint64 {
	switch {
	case v <= ondisk.Version1_0+20:
		return 8
	case v <= ondisk.Version1_38:
		return 64
	}
	return 4096
}

func addRange(l []ondisk.SeqRange, r ondisk.SeqRange) []ondisk.SeqRange {
	l = append(slices.Clone(l), r)
	slices.SortFunc(l, func(a, b ondisk.SeqRange) int {
		if a.Start < b.Start {
			return -1
		}
		return 1
	})
	out := l[:1]
	for _, x := range l[1:] {
		if last := &out[len(out)-1]; x.Start <= last.End {
			last.End = max(last.End, x.End)
		} else {
			out = append(out, x)
		}
	}
	return out
}

// Close writes everything and leaves the volume clean (chapter 03 section 10.5).
func (rw *RW) Close(ctx context.Context) error {
	if err := rw.Store.Err(); err != nil {
		return err
	}
	for range 100 {
		if err := rw.Store.Checkpoint(ctx, math.MaxUint64); err != nil {
			return err
		}
		n, err := rw.Alloc.Discards(ctx)
		if err != nil {
			return err
		}
		if n == 0 && rw.Store.Dirty() == 0 {
			break
		}
	}
	lock := rw.Store.Lock()
	lock.Lock()
	seq := rw.J.Seq()
	tail := rw.J.State()
	lock.Unlock()
	if err := rw.J.Sync(ctx, seq); err != nil {
		return err
	}
	var entries []byte
	entries = ondisk.JsetEntry{Type: ondisk.EntryUsage, Btree: ondisk.UsageKeyVersion, Data: le64(tail.KeyVersion)}.Append(entries)
	for i, t := range tail.Clock {
		entries = ondisk.JsetEntry{Type: ondisk.EntryClock, Data: append(le64(uint64(i)), le64(t)...)}.Append(entries)
	}
	lock.Lock()
	entries = rw.Store.Tail(entries)
	lock.Unlock()
	return rw.WS.Update(ctx, func(sb *ondisk.Superblock) error {
		sb.SetClean(true)
		sb.SetCleanSection(&ondisk.Clean{JournalSeq: seq, Entries: entries})
		sb.SetCompat(ondisk.CompatAllocInfo, true)
		sb.SetCompat(ondisk.CompatAllocMetadata, true)
		l, err := sb.Replicas()
		if err != nil {
			return err
		}
		sb.SetReplicas(slices.DeleteFunc(l, func(e ondisk.ReplicasEntry) bool { return e.DataType == ondisk.DataJournal }))
		ms, err := sb.Members()
		if err != nil {
			return err
		}
		for i, p := range rw.J.Position() {
			ms[i].LastJournalBucket, ms[i].LastJournalBucketOffset = p[0], p[1]
		}
		return sb.SetMembers(ms, sb.MemberStride())
	})
}

func le64(v uint64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(v >> (8 * i))
	}
	return b
}

// Writer is the file level of the volume.
func (rw *RW) Writer() *objects.Writer {
	return objects.NewWriter(rw.Files, rw.Store, rw.WS, data.NewWriter(rw.Data, rw.WS, rw.Store), rw.Alloc, rw.WS.Now, rw.seed)
}
