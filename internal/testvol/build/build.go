// Package build is for tests: it makes small volumes out of a list of keys, with
// the encoders of package ondisk and nothing of the engine, so that a reader can
// be shown structures that no volume of the real implementation holds: old ones,
// rare ones, and hostile ones. What comes from it is labelled synthetic.
//
//	v := build.New(build.Config{})
//	v.Base()
//	v.File("hello", 5000, ondisk.Inode{Size: 5}, v.Extent(5000, 0, []byte("hello"), build.Enc{}))
//	devs := v.Devices()
//
// The allocation btrees are not made: a reader takes every pointer as valid
// then. Everything is a function of the configuration and the calls: the same
// calls give the same bytes.
package build

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Config shapes a volume. Zero values mean what the comments say.
type Config struct {
	Version ondisk.Version // 1.13
	Members int            // 1
	Size    int64          // bytes of a member, 16 MiB
	Block   uint16         // sectors, 8
	Bucket  uint16         // sectors, 64
	Node    uint16         // sectors of a btree node, 32
	// MetaCsum is the checksum of nodes, journal and superblock: crc32c, or with
	// NoMetaCsum none. With a Key it is a MAC for all but the superblock.
	MetaCsum   ondisk.CsumOpt
	NoMetaCsum bool
	// Key encrypts the volume; with a passphrase key PassKey it is sealed.
	Key, PassKey *crypt.Key
	// KeysPerLeaf splits leaves, and Fanout interior nodes; 0 for what fits.
	KeysPerLeaf, Fanout int
}

// Root is where a btree begins.
type Root struct {
	Key   ondisk.KV
	Level int
}

// Volume is a volume in the making.
type Volume struct {
	Config
	// SB is the common superblock; what is changed here is on the devices that
	// Devices gives. Layout and journal are those of each device.
	SB *ondisk.Superblock
	// Dev are the members. Their superblocks are written by Devices.
	Dev []*block.Sparse
	// Roots are those that the clean section, or Tail, will name. Devices adds
	// the trees of keys that were only added.
	Roots map[ondisk.BtreeID]Root
	// JournalSeq is the last journal entry of a clean shutdown.
	JournalSeq uint64
	// KeyVersion is the counter of encrypted extents.
	KeyVersion uint64
	// Pieces are all structures with a checksum that were written.
	Pieces []Piece
	// Change may alter the superblock of a device before it is written.
	Change func(dev int, sb *ondisk.Superblock)

	keys map[ondisk.BtreeID][]ondisk.KV
	next []space
	seq  uint64
	last []Piece // of EncodeNode
}

// space is what is taken of a device: buckets are handed out in order.
type space struct {
	bucket     uint64 // next free one
	node, data uint64 // next free sector in the open bucket, 0 for none open
}

// Fixed places, in sectors and buckets.
const (
	sbBits        = 7 // 64 KiB for each superblock copy
	journalFirst  = 8 // bucket
	JournalNr     = 8 // buckets of the ring of each member
	firstFree     = journalFirst + JournalNr
	TimeBase      = 1_700_000_000_000_000_000
	RootSnapshot  = 1<<32 - 1
	RootHashSeed  = 0x1234567890abcdef
	dirHash       = 3 // siphash
	defaultVolume = 16 << 20
)

// New starts an empty, clean volume.
func New(c Config) *Volume {
	def := func(p *uint16, v uint16) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.Block, 8)
	def(&c.Bucket, 64)
	def(&c.Node, 32)
	if c.Version == 0 {
		c.Version = ondisk.Version1_13
	}
	c.Members = max(c.Members, 1)
	if c.Size == 0 {
		c.Size = defaultVolume
	}
	if c.MetaCsum == 0 && !c.NoMetaCsum {
		c.MetaCsum = ondisk.CsumOptCRC32C
	}
	v := &Volume{Config: c, Roots: map[ondisk.BtreeID]Root{}, JournalSeq: 1, keys: map[ondisk.BtreeID][]ondisk.KV{}, seq: 0x5eed}
	for i := range c.Members {
		v.Dev = append(v.Dev, block.NewSparse(fmt.Sprintf("member%d", i), c.Size))
		v.next = append(v.next, space{bucket: firstFree})
	}
	v.superblock()
	return v
}

func uuid(n byte) (u ondisk.UUID) {
	for i := range u {
		u[i] = n ^ byte(i*7)
	}
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u
}

// must says that a test built something that cannot be built.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (v *Volume) superblock() {
	c := v.Config
	sb := &ondisk.Superblock{Version: c.Version, VersionMin: c.Version, Magic: ondisk.SBMagic, UUID: uuid(0x11), UserUUID: uuid(0x22), Label: "synthetic",
		TimeBaseLo: TimeBase, TimePrecision: 1, Seq: 10, WriteTime: TimeBase / 1e9}
	v.SB = sb
	sb.SetReplicasRequired(1, 1)
	for _, o := range ondisk.Options() {
		if !o.Stored() || !o.InVersion(c.Version) {
			continue
		}
		x := o.DefaultAt(c.Version)
		switch o.Name {
		case "block_size":
			x = uint64(c.Block) * 512
		case "btree_node_size":
			x = uint64(c.Node) * 512
		case "metadata_checksum":
			x = uint64(c.MetaCsum)
		}
		must(o.Set(sb, x))
	}
	sb.BlockSize = c.Block
	sb.SetCsumType(sb.MetadataChecksum().MetaType())
	sb.SetInitialized(true)
	sb.SetClean(true)
	sb.Features[0] = ondisk.FeaturesAll
	if c.Version > ondisk.Version1_15 {
		sb.SetFeature(ondisk.FeatureIncompatVersionField, true)
		sb.SetVersionIncompatAllowed(c.Version)
	}
	sb.Compat[0] = 0xf
	sb.SetVersionUpgradeComplete(c.Version)
	sb.SetMultiDevice(c.Members > 1)
	var ms []ondisk.Member
	for i := range c.Members {
		m := ondisk.Member{UUID: uuid(0x40 + byte(i)), NBuckets: uint64(c.Size) / 512 / uint64(c.Bucket), BucketSize: c.Bucket, Seq: sb.Seq, LastMount: TimeBase / 1e9}
		m.SetDataAllowed(1<<ondisk.DataJournal | 1<<ondisk.DataBtree | 1<<ondisk.DataUser)
		m.SetDurability(1)
		m.SetGroup(-1)
		ms = append(ms, m)
	}
	stride := ondisk.MemberSize1_13
	if c.Version > ondisk.Version1_13 {
		stride = ondisk.MemberSize1_39
	}
	must(sb.SetMembers(ms, stride))
	sb.SetErrors(nil, false)
	sb.SetExt(ondisk.Ext{}, ondisk.ExtSize1_13)
	if c.Key != nil {
		cr := &ondisk.Crypt{Key: crypt.SealKey(c.Key, c.PassKey, sb.UUID)}
		if c.PassKey != nil {
			cr.KDFFlags = crypt.DefaultKDFFlags
		}
		sb.SetCrypt(cr)
		sb.SetEncryptionType(1)
	}
}

// Member changes a member of the common superblock.
func (v *Volume) Member(i int, change func(*ondisk.Member)) {
	ms, err := v.SB.Members()
	must(err)
	change(&ms[i])
	must(v.SB.SetMembers(ms, v.SB.MemberStride()))
}

// Layout is where the superblock copies of a member are.
func (v *Volume) Layout(int) ondisk.SBLayout {
	third := (uint64(v.Size)/512 - 1<<sbBits) / uint64(v.Bucket) * uint64(v.Bucket)
	return ondisk.SBLayout{Magic: ondisk.SBMagic, MaxSizeBits: sbBits, Offsets: []uint64{8, 8 + 1<<sbBits, third}}
}

// Add adds keys to the leaves of a btree, in any order; the last of equal
// positions counts.
func (v *Volume) Add(b ondisk.BtreeID, kvs ...ondisk.KV) {
	v.keys[b] = append(v.keys[b], kvs...)
}

// Keys are the keys of a btree as they will be stored: sorted, each position
// once.
func (v *Volume) Keys(b ondisk.BtreeID) []ondisk.KV {
	ks := slices.Clone(v.keys[b])
	slices.SortStableFunc(ks, func(a, b ondisk.KV) int { return a.Pos.Compare(b.Pos) })
	out := ks[:0]
	for i, k := range ks {
		if i+1 == len(ks) || ks[i+1].Pos != k.Pos {
			out = append(out, k)
		}
	}
	return out
}

// Trees writes the btrees whose keys were added and that have no root yet.
func (v *Volume) Trees() {
	for _, b := range slices.Sorted(maps.Keys(v.keys)) {
		if _, done := v.Roots[b]; !done {
			v.Roots[b] = v.Tree(b, v.Keys(b))
		}
	}
}

// RootEntries are the sub-entries that name the roots.
func (v *Volume) RootEntries() []ondisk.JsetEntry {
	var out []ondisk.JsetEntry
	for _, b := range slices.Sorted(maps.Keys(v.Roots)) {
		r := v.Roots[b]
		out = append(out, ondisk.JsetEntry{Type: ondisk.EntryBtreeRoot, Btree: b, Level: uint8(r.Level), Data: r.Key.Append(nil)})
	}
	return out
}

// Tail are the sub-entries that end a journal entry: roots and counters.
func (v *Volume) Tail() []ondisk.JsetEntry {
	return append(v.RootEntries(), ondisk.JsetEntry{Type: ondisk.EntryUsage, Btree: ondisk.UsageKeyVersion, Data: binary.LittleEndian.AppendUint64(nil, v.KeyVersion)})
}

// Devices writes trees and superblocks and gives the members. The clean section
// is written unless SB says that the volume is not clean, or has one already.
func (v *Volume) Devices() []block.Reader {
	v.Trees()
	if v.SB.Clean() && v.SB.Field(ondisk.FieldClean) == nil {
		c := &ondisk.Clean{JournalSeq: v.JournalSeq}
		for _, e := range v.Tail() {
			c.Entries = e.Append(c.Entries)
		}
		v.SB.SetCleanSection(c)
	}
	var out []block.Reader
	for i := range v.Dev {
		v.WriteSuper(i, v.DeviceSuper(i))
		out = append(out, v.Dev[i])
	}
	return out
}

// DeviceSuper is the superblock of one member.
func (v *Volume) DeviceSuper(i int) *ondisk.Superblock {
	sb := v.SB.Clone()
	sb.DevIdx = uint8(i)
	sb.Layout = v.Layout(i)
	sb.SetJournalBuckets(v.JournalBuckets())
	if v.Change != nil {
		v.Change(i, sb)
	}
	return sb
}

// JournalBuckets is the ring of each member.
func (v *Volume) JournalBuckets() (b []uint64) {
	for i := range uint64(JournalNr) {
		b = append(b, journalFirst+i)
	}
	return b
}

// WriteSuper writes the layout and all copies of a superblock to a member.
func (v *Volume) WriteSuper(i int, sb *ondisk.Superblock) {
	v.write(i, 7, sb.Layout.Append(nil))
	for _, off := range sb.Layout.Offsets {
		c := sb.Clone()
		c.Offset = off
		b := c.Append(nil)
		v.write(i, off, b)
		v.Pieces = append(v.Pieces, Piece{Kind: "super", Dev: i, Off: int64(off) * 512, Plain: b, seal: resealSuper})
	}
}

func (v *Volume) write(dev int, sector uint64, b []byte) {
	_, err := v.Dev[dev].WriteAt(b, int64(sector)*512)
	must(err)
}

// take finds sectors in a bucket of a member that holds only its kind.
func (v *Volume) take(dev int, n uint64, node bool) uint64 {
	s := &v.next[dev]
	at := &s.data
	if node {
		at = &s.node
	}
	bucket := uint64(v.Bucket)
	if n > bucket {
		panic(fmt.Sprintf("build: %d sectors do not fit a bucket of %d", n, bucket))
	}
	if *at == 0 || *at%bucket != 0 && *at%bucket+n > bucket || *at%bucket == 0 {
		*at = s.bucket * bucket
		s.bucket++
		if s.bucket*bucket > v.Layout(dev).Offsets[2] {
			panic("build: member is full")
		}
	}
	sector := *at
	*at += n
	return sector
}

func (v *Volume) identity() uint64 {
	v.seq += 0x9e3779b97f4a7c15
	return v.seq
}
