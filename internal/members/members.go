// Package members turns devices into one volume: it reads the superblocks,
// decides which devices belong together and which of them are current, unlocks
// encrypted volumes, and from then on is the only door to the sectors.
//
// Chapters: 01 (superblock, section 8.1 assembly), 05 section 10 (keys), 08
// section 1.5 (degraded rules).
package members

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Degraded says how many members may be missing.
type Degraded int

// The degraded modes (option `degraded`).
const (
	DegradedNo   Degraded = iota // none
	DegradedYes                  // as long as everything has a copy that can be read
	DegradedVery                 // any
)

// Options of Open. The zero value refuses missing members.
type Options struct {
	// Sector of the superblock to use; 0 for the usual choice.
	SBSector uint64
	Degraded Degraded
	// NoSplitBrainCheck accepts members with divergent histories.
	NoSplitBrainCheck bool
	// Key finds the 32-byte passphrase key of an encrypted volume; it is called
	// only when one is needed. It may be nil: errs.ErrLocked then.
	Key func(ctx context.Context, sb *ondisk.Superblock) (*crypt.Key, error)
	// SuperOnly leaves an encrypted volume locked: for work on superblocks.
	SuperOnly bool
	// Warn is told of everything that was wrong and could be worked around.
	Warn func(error)
}

// Device is one member slot.
type Device struct {
	Index  int
	R      block.Reader       // nil when missing
	SB     *ondisk.Superblock // the device's own superblock, nil when missing
	Member ondisk.Member      // from the newest superblock
}

// Online: the device is here.
func (d *Device) Online() bool { return d != nil && d.R != nil }

// Set is an assembled volume. It is safe for concurrent use.
type Set struct {
	// SB is the newest superblock; what it says of the volume is the truth.
	SB   *ondisk.Superblock
	Devs []*Device // by member index; nil for slots without a member
	// Master is the key of an encrypted volume, else nil.
	Master *crypt.Key
	// ExtentTypes are the sizes of extent entry types the volume declares.
	ExtentTypes *ondisk.ExtentTypeSizes

	warn      func(error)
	readBytes atomic.Int64
}

type candidate struct {
	nr     int // in the order given
	r      block.Reader
	sb     *ondisk.Superblock
	copies []Copy
}

// Open assembles the volume that the readers hold, in any order. The Set does
// not close the readers.
func Open(ctx context.Context, readers []block.Reader, o Options) (*Set, error) {
	if len(readers) == 0 {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: "no device given"}
	}
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	var cands []candidate
	seen := map[string]string{}
	for nr, r := range readers {
		if id := r.Info().ID; id != "" {
			if prev, dup := seen[id]; dup {
				return nil, usage("%s: the same device as %s", r.Info().Name, prev)
			}
			seen[id] = r.Info().Name
		}
		sb, copies, err := ReadSuper(ctx, r, o.SBSector)
		if err != nil {
			return nil, err
		}
		for _, c := range copies {
			if c.Err != nil {
				o.Warn(fmt.Errorf("superblock copy ignored: %w", c.Err))
			}
		}
		cands = append(cands, candidate{nr, r, sb, copies})
	}
	best := slices.MaxFunc(cands, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.sb.Seq, b.sb.Seq), cmp.Compare(a.sb.WriteTime, b.sb.WriteTime))
	})
	s := &Set{SB: best.sb, warn: o.Warn}
	ms, err := best.sb.Members()
	if err != nil {
		return nil, errs.At(err, errs.Where{Path: best.r.Info().Name, Dev: -1, Sector: -1, Btree: -1, Level: -1})
	}
	s.Devs = make([]*Device, len(ms))
	for i, m := range ms {
		if m.Exists() {
			s.Devs[i] = &Device{Index: i, Member: m}
		}
	}
	if b := best.sb.Field(ondisk.FieldExtentTypeU64s); b != nil {
		if s.ExtentTypes, err = ondisk.DecodeExtentTypeSizes(b); err != nil {
			return nil, errs.At(err, errs.Where{Path: best.r.Info().Name, Dev: -1, Sector: -1, Btree: -1, Level: -1})
		}
	}
	for _, c := range cands {
		if err := s.attach(best, c, o); err != nil {
			return nil, err
		}
	}
	for i, d := range s.Devs {
		if have, want := uint64(0), uint64(0); d.Online() {
			if have, want = uint64(d.R.Size())/512, d.Member.Sectors(); have < want {
				o.Warn(errs.Corrupt(errs.Where{Path: d.R.Info().Name, Dev: i, Sector: -1, Btree: -1, Level: -1}, "device is truncated", fmt.Sprintf("%d sectors", want), fmt.Sprint(have)))
			}
		}
	}
	if err := s.checkMissing(o.Degraded); err != nil {
		return nil, err
	}
	if o.SuperOnly {
		return s, nil
	}
	if err := s.unlock(ctx, o); err != nil {
		return nil, err
	}
	return s, nil
}

func usage(format string, a ...any) error {
	return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: fmt.Sprintf(format, a...)}
}

// attach puts a candidate into its slot, following chapter 01 section 8.1.
func (s *Set) attach(best, c candidate, o Options) error {
	name := c.r.Info().Name
	if c.sb.UUID != s.SB.UUID {
		return usage("%s belongs to volume %s, not %s", name, c.sb.UserUUID, s.SB.UserUUID)
	}
	i := int(c.sb.DevIdx)
	if i >= len(s.Devs) || s.Devs[i] == nil {
		o.Warn(fmt.Errorf("%s: member %d has been removed from the volume, device ignored", name, i))
		return nil
	}
	if c.sb.BlockSize != s.SB.BlockSize {
		return usage("%s: block size %d sectors, the volume has %d", name, c.sb.BlockSize, s.SB.BlockSize)
	}
	d := s.Devs[i]
	if d.R != nil {
		old := d.R.Info().Name
		if d.SB.Seq >= c.sb.Seq {
			name, old = old, name
		}
		return usage("%s: duplicate of member %d, older by seq than %s", old, i, name)
	}
	if c.nr != best.nr && !o.NoSplitBrainCheck && c.sb.Version >= ondisk.Version1_0+4 && s.SB.Version >= ondisk.Version1_0+4 {
		split := func(why string) error {
			return &errs.Error{Where: errs.Where{Path: name, Dev: i, Sector: -1, Btree: -1, Level: -1}, Kind: errs.ErrSplitBrain,
				Reason: "split brain: " + why + " (option no_splitbrain_check uses it all the same)"}
		}
		if c.sb.Seq == s.SB.Seq && c.sb.WriteTime != s.SB.WriteTime {
			return split(fmt.Sprintf("%s and %s both have superblock seq %d, written at different times", name, best.r.Info().Name, c.sb.Seq))
		}
		if ms := d.Member.Seq; ms != 0 && ms < c.sb.Seq {
			return split(fmt.Sprintf("the device was written %d times without %s (seq %d, last common %d)", c.sb.Seq-ms, best.r.Info().Name, c.sb.Seq, ms))
		}
	}
	if d.Member.UUID != memberUUID(c.sb, i) {
		o.Warn(fmt.Errorf("%s: member %d has another device uuid in its own superblock", name, i))
	}
	d.R, d.SB = c.r, c.sb
	return nil
}

func memberUUID(sb *ondisk.Superblock, i int) ondisk.UUID {
	ms, err := sb.Members()
	if err != nil || i >= len(ms) {
		return ondisk.UUID{}
	}
	return ms[i].UUID
}

// Missing lists the indexes of members that are not here.
func (s *Set) Missing() []int {
	var m []int
	for i, d := range s.Devs {
		if d != nil && !d.Online() {
			m = append(m, i)
		}
	}
	return m
}

// DescribeMember names a member for messages: index, label, uuid, last name.
func (s *Set) DescribeMember(i int) string {
	if i >= len(s.Devs) || s.Devs[i] == nil {
		return fmt.Sprintf("member %d (no such member)", i)
	}
	m := s.Devs[i].Member
	t := fmt.Sprintf("member %d", i)
	if g := m.Group(); g >= 0 {
		t += " label " + s.SB.GroupPath(g)
	}
	t += " uuid " + m.UUID.String()
	if m.DeviceName != "" {
		t += " last seen as " + m.DeviceName
	}
	return t
}

// checkMissing applies the degraded rules of chapter 08 section 1.5.
func (s *Set) checkMissing(mode Degraded) error {
	missing := s.Missing()
	if len(missing) == 0 {
		return nil
	}
	var names []string
	for _, i := range missing {
		names = append(names, s.DescribeMember(i))
	}
	entries, err := s.SB.Replicas()
	if err != nil {
		return err
	}
	if mode == DegradedNo && !slices.ContainsFunc(missing, func(i int) bool { return !s.evacuated(i, entries) }) {
		s.warn(fmt.Errorf("missing, but holds nothing any more: %s", strings.Join(names, "; ")))
		return nil
	}
	lost := s.lostReplicas(entries)
	hint := "add -o degraded (everything listed has another copy)"
	if len(lost) > 0 {
		hint = "only -o degraded=very opens it; without a readable copy: " + strings.Join(lost, ", ")
	}
	e := &errs.Error{Where: errs.Nowhere, Kind: errs.ErrDegraded, Reason: "insufficient_devices_to_start: missing " + strings.Join(names, "; ") + ": " + hint, Cause: errs.ErrMissingDevice}
	switch {
	case mode == DegradedVery:
		s.warn(fmt.Errorf("degraded: missing %s", strings.Join(names, "; ")))
		return nil
	case mode == DegradedYes && len(lost) == 0:
		s.warn(fmt.Errorf("degraded: missing %s", strings.Join(names, "; ")))
		return nil
	}
	return e
}

// evacuated: a member was being emptied and is empty. From version 1.36 on the
// superblock no longer says where user data is.
func (s *Set) evacuated(i int, entries []ondisk.ReplicasEntry) bool {
	m := &s.Devs[i].Member
	return m.State() == ondisk.MemberEvacuating && s.SB.VersionIncompat() < ondisk.Version1_0+36 &&
		!slices.ContainsFunc(entries, func(e ondisk.ReplicasEntry) bool { return slices.Contains(e.Devs, uint8(i)) })
}

// lostReplicas names the replica sets that cannot be read with the members at hand.
func (s *Set) lostReplicas(entries []ondisk.ReplicasEntry) []string {
	var lost []string
	for _, e := range entries {
		online := 0
		for _, d := range e.Devs {
			if int(d) < len(s.Devs) && s.Devs[d].Online() {
				online++
			}
		}
		if online < e.Required {
			lost = append(lost, fmt.Sprintf("%s on %v", ondisk.DataType(e.DataType), e.Devs))
		}
	}
	return lost
}

// unlock finds the master key of an encrypted volume.
func (s *Set) unlock(ctx context.Context, o Options) error {
	c, err := s.SB.Crypt()
	if err != nil || c == nil {
		return err
	}
	var pk *crypt.Key
	if !crypt.IsPlain(&c.Key) {
		if o.Key == nil {
			return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrLocked, Reason: "encrypted: run unlock, or give --passphrase-file"}
		}
		if pk, err = o.Key(ctx, s.SB); err != nil {
			return err
		}
	}
	k, err := crypt.OpenKey(&c.Key, pk, s.SB.UUID)
	if err != nil {
		return err
	}
	s.Master = &k
	return nil
}

// ReadSectors fills p (whole sectors) from a member. The error is
// errs.ErrMissingDevice when the member is not here and errs.ErrIO when the
// device fails or the range is outside of it.
func (s *Set) ReadSectors(dev uint8, sector uint64, p []byte) error {
	w := errs.Where{Dev: int(dev), Sector: int64(sector), Btree: -1, Level: -1}
	if int(dev) >= len(s.Devs) || !s.Devs[dev].Online() {
		return &errs.Error{Where: w, Kind: errs.ErrMissingDevice, Reason: "member is not here", Cause: errs.ErrIO}
	}
	r := s.Devs[dev].R
	w.Path = r.Info().Name
	if sector > uint64(r.Size())/512 {
		return &errs.Error{Where: w, Kind: errs.ErrIO, Reason: "read past the end of the device", Want: fmt.Sprintf("less than sector %d", r.Size()/512), Got: fmt.Sprint(sector)}
	}
	s.readBytes.Add(int64(len(p)))
	n, err := r.ReadAt(p, int64(sector)*512)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &errs.Error{Where: w, Kind: errs.ErrIO, Reason: "device read", Want: fmt.Sprintf("%d bytes", len(p)), Got: fmt.Sprint(n), Cause: err}
}

// InRange gives the error that reading n sectors must give because the member is
// not here or not that big, nil if it is.
func (s *Set) InRange(dev uint8, sector, n uint64) error {
	w := errs.Where{Dev: int(dev), Sector: int64(sector), Btree: -1, Level: -1}
	if int(dev) >= len(s.Devs) || !s.Devs[dev].Online() {
		return &errs.Error{Where: w, Kind: errs.ErrMissingDevice, Reason: "member is not here", Cause: errs.ErrIO}
	}
	r := s.Devs[dev].R
	w.Path = r.Info().Name
	if end := uint64(r.Size()) / 512; sector > end || n > end-sector {
		return &errs.Error{Where: w, Kind: errs.ErrIO, Reason: "read past the end of the device", Want: fmt.Sprintf("at most sector %d", end), Got: fmt.Sprintf("%d sectors at %d", n, sector)}
	}
	return nil
}

// Online reports whether a member can be read.
func (s *Set) Online(dev uint8) bool { return int(dev) < len(s.Devs) && s.Devs[dev].Online() }

// BucketSize is the bucket size of a member in sectors, 0 for no such member.
func (s *Set) BucketSize(dev uint8) uint64 {
	if int(dev) >= len(s.Devs) || s.Devs[dev] == nil {
		return 0
	}
	return uint64(s.Devs[dev].Member.BucketSize)
}

// BytesRead counts what was read from the members since Open, for tests and
// statistics.
func (s *Set) BytesRead() int64 { return s.readBytes.Load() }

// Warn passes a finding that could be worked around to whoever opened the volume.
func (s *Set) Warn(err error) { s.warn(err) }

// Sum computes a checksum or MAC of the volume; errs.ErrLocked when it needs
// the key and there is none.
func (s *Set) Sum(t ondisk.CsumType, n crypt.Nonce, p []byte) (ondisk.Csum, error) {
	if t.Encrypted() && s.Master == nil {
		return ondisk.Csum{}, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrLocked, Reason: "encrypted data, no key"}
	}
	lo, hi, err := crypt.Sum(uint8(t), s.Master, n, p)
	return ondisk.Csum{Lo: lo, Hi: hi}, err
}

// Decrypt decrypts p in place if t is an encrypted checksum type.
func (s *Set) Decrypt(t ondisk.CsumType, n crypt.Nonce, p []byte) {
	if t.Encrypted() && s.Master != nil {
		crypt.XOR(s.Master, n, p)
	}
}

// ChecksumError describes a mismatch.
func ChecksumError(w errs.Where, reason string, t ondisk.CsumType, want, got ondisk.Csum) error {
	return &errs.Error{Where: w, Kind: errs.ErrChecksum, Reason: reason,
		Want: fmt.Sprintf("%s %x:%x", t, want.Hi, want.Lo), Got: fmt.Sprintf("%x:%x", got.Hi, got.Lo)}
}
