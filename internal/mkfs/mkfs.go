// Package mkfs makes volumes: superblocks for new devices (chapter 01 section
// 7), which the writing engine then initializes like a first mount does, and
// closes cleanly.
package mkfs

import (
	"context"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"time"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/engine"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Device is a device to format with what is said of it alone.
type Device struct {
	W          block.Writer
	Size       int64  // bytes to use, 0 for all
	BucketSize uint32 // bytes, 0 for the default
	Label      string // dotted path
	Durability int    // -1 for the default
	Discard    bool
	Allowed    uint8 // data types, 0 for the default
}

// Options of Format.
type Options struct {
	Version ondisk.Version // 0 for 1.13
	Label   string
	// UUID is the external uuid; zero for a random one.
	UUID ondisk.UUID
	// Options holds options of the superblock by name, in their own units.
	Options map[string]uint64
	// Targets holds target options as text, resolved after the labels exist.
	Targets         map[string]string
	SuperblockBytes int64 // reservation of each copy, 0 for 1 MiB
	Encrypted       bool
	Passphrase      []byte // nil with Encrypted: the key is stored in the clear
	Now             func() time.Time
	// Seed makes everything random: uuids, hash seeds, node identities. Key
	// material never comes from it.
	Seed func() uint64
	Warn func(error)
}

func (o *Options) seed() uint64 {
	if o.Seed != nil {
		return o.Seed()
	}
	return rand.Uint64()
}

func (o *Options) uuid() (u ondisk.UUID) {
	for i := 0; i < 16; i += 8 {
		v := o.seed()
		for j := range 8 {
			u[i+j] = byte(v >> (8 * j))
		}
	}
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u
}

func bad(format string, a ...any) error {
	return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: fmt.Sprintf(format, a...)}
}

const minBuckets = 512

// geometry decides the bucket size of a device, in bytes (chapter 01 section 7.2,
// the rule of 1.13, but with at least 512 buckets).
func geometry(d *Device, blockSize, nodeSize uint32) (uint32, error) {
	size := uint64(d.Size)
	b := d.BucketSize
	if b == 0 {
		b = max(blockSize, nodeSize, 128<<10)
		if m := uint64(minBuckets) * uint64(b); size >= m {
			if l := bits.Len64(size/m) - 1; l/4 > 0 {
				b *= 1 << min(l/4, 20)
			}
			b = min(b, 1<<20)
		} else {
			for b > blockSize && size < minBuckets*uint64(b) {
				b /= 2
			}
		}
	}
	switch {
	case b&(b-1) != 0:
		return 0, bad("bucket_size: must be a power of two")
	case b < blockSize:
		return 0, bad("bucket_size: too small (min %d)", blockSize)
	case b < nodeSize:
		return 0, bad("bucket_size: too small (min %d, the btree node size)", nodeSize)
	case b/512 > 65535:
		return 0, bad("bucket_size: too big (max %d)", 32<<20)
	case size/uint64(b) < minBuckets:
		return 0, bad("device too small (min %d bytes)", minBuckets*uint64(b))
	case size/uint64(b) > ondisk.MemberMaxBuckets:
		return 0, bad("bucket_size: too small for the device")
	}
	return b, nil
}

// Format writes a new, empty, clean volume. Everything on the devices is lost.
func Format(ctx context.Context, devs []Device, o Options) (*ondisk.Superblock, error) {
	rw, err := Open(ctx, devs, o)
	if err != nil {
		return nil, err
	}
	if err := rw.Close(ctx); err != nil {
		return nil, err
	}
	return rw.WS.Current(), nil
}

// Open makes a new volume and leaves it open to write, not yet clean.
func Open(ctx context.Context, devs []Device, o Options) (*engine.RW, error) {
	if len(devs) == 0 {
		return nil, bad("no device given")
	}
	if o.Version == 0 {
		o.Version = ondisk.Version1_13
	}
	if o.Version != ondisk.Version1_13 {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: fmt.Sprintf("making volumes of version %v is not supported", o.Version)}
	}
	if len(o.Label) >= ondisk.SBLabelSize {
		return nil, bad("label: too long (max %d bytes)", ondisk.SBLabelSize-1)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	sb, master, err := superblock(devs, &o)
	if err != nil {
		return nil, err
	}
	if err := write(ctx, devs, sb, o.SuperblockBytes); err != nil {
		return nil, err
	}
	var readers []block.Reader
	for _, d := range devs {
		readers = append(readers, d.W)
	}
	eo := engine.WriteOptions{Now: o.Now, Seed: o.Seed}
	eo.CacheBytes = 256 << 20
	eo.Members.Warn = o.Warn
	if master != nil {
		eo.Members.Key = func(context.Context, *ondisk.Superblock) (*crypt.Key, error) { return master, nil }
	}
	return engine.Initialize(ctx, readers, eo)
}

// superblock makes the common superblock. The key returned opens the volume's
// key, nil when none is needed.
func superblock(devs []Device, o *Options) (*ondisk.Superblock, *crypt.Key, error) {
	now := o.Now()
	sb := &ondisk.Superblock{Version: o.Version, VersionMin: o.Version, Magic: ondisk.SBMagic, UUID: o.uuid(), UserUUID: o.UUID, Label: o.Label,
		TimeBaseLo: uint64(now.UnixNano()), TimePrecision: 1, BlockSize: 8}
	if sb.UserUUID.IsZero() {
		sb.UserUUID = o.uuid()
	}
	sb.SetReplicasRequired(1, 1)
	for _, opt := range ondisk.Options() {
		if !opt.Stored() || !opt.InVersion(o.Version) {
			continue
		}
		v := opt.DefaultAt(o.Version)
		if opt.Name == "block_size" {
			v = 4096
		}
		if x, ok := o.Options[opt.Name]; ok {
			v = x
		}
		if err := opt.Set(sb, v); err != nil {
			return nil, nil, err
		}
	}
	for name := range o.Options {
		if opt, ok := ondisk.FindOption(name); !ok || !opt.Stored() {
			return nil, nil, bad("%s: not an option of a volume", name)
		}
	}
	blockSize := uint32(sb.BlockSize) * 512
	node := uint32(o.Options["btree_node_size"])
	smallest := uint32(256 << 10)
	for i := range devs {
		d := &devs[i]
		if d.Size == 0 || d.Size > d.W.Size() {
			d.Size = d.W.Size()
		}
		b, err := geometry(d, blockSize, node)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", d.W.Info().Name, err)
		}
		d.BucketSize = b
		smallest = min(smallest, b)
	}
	if node == 0 {
		opt, _ := ondisk.FindOption("btree_node_size")
		if err := opt.Set(sb, uint64(max(smallest, 2*blockSize))); err != nil {
			return nil, nil, err
		}
	}
	var ms []ondisk.Member
	for i := range devs {
		d := &devs[i]
		m := ondisk.Member{UUID: o.uuid(), NBuckets: uint64(d.Size) / uint64(d.BucketSize), BucketSize: uint16(d.BucketSize / 512)}
		m.SetDataAllowed(1<<ondisk.DataJournal | 1<<ondisk.DataBtree | 1<<ondisk.DataUser)
		if d.Allowed != 0 {
			m.SetDataAllowed(d.Allowed)
		}
		m.SetDurability(1)
		if d.Durability >= 0 {
			m.SetDurability(d.Durability)
		}
		m.SetDiscard(d.Discard)
		m.SetGroup(-1)
		if d.Label != "" {
			g, err := sb.AddGroup(d.Label)
			if err != nil {
				return nil, nil, err
			}
			m.SetGroup(g)
		}
		ms = append(ms, m)
	}
	if err := sb.SetMembers(ms, ondisk.MemberSize1_13); err != nil {
		return nil, nil, err
	}
	for name, text := range o.Targets {
		opt, ok := ondisk.FindOption(name)
		if !ok {
			return nil, nil, bad("unknown option %s", name)
		}
		t, err := sb.ParseTarget(text)
		if err != nil {
			return nil, nil, err
		}
		if err := opt.Set(sb, uint64(t)); err != nil {
			return nil, nil, err
		}
	}
	sb.Features[0] = 0x7ba80
	for i, f := range []ondisk.Feature{0, ondisk.FeatureLZ4, ondisk.FeatureGzip, ondisk.FeatureZstd} {
		for _, name := range []string{"compression", "background_compression"} {
			if opt, _ := ondisk.FindOption(name); i > 0 && opt.Get(sb)&15 == uint64(i) {
				sb.SetFeature(f, true)
			}
		}
	}
	sb.SetErrors(nil, false)
	sb.SetExt(ondisk.Ext{}, ondisk.ExtSize1_13)
	if !o.Encrypted {
		return sb, nil, nil
	}
	return encrypt(sb, o)
}

// encrypt adds the key of an encrypted volume; it is always drawn from the
// system's randomness.
func encrypt(sb *ondisk.Superblock, o *Options) (*ondisk.Superblock, *crypt.Key, error) {
	var master crypt.Key
	if err := crypt.Random(master[:]); err != nil {
		return nil, nil, err
	}
	c := &ondisk.Crypt{}
	var pass *crypt.Key
	if o.Passphrase != nil {
		c.KDFFlags = crypt.DefaultKDFFlags
		k, err := crypt.DeriveKey(o.Passphrase, c.KDFFlags)
		if err != nil {
			return nil, nil, err
		}
		pass = &k
	}
	c.Key = crypt.SealKey(&master, pass, sb.UUID)
	sb.SetCrypt(c)
	sb.SetEncryptionType(1)
	return sb, pass, nil
}

// write puts the superblock on all devices: the layout at sector 7 and all
// copies.
func write(ctx context.Context, devs []Device, common *ondisk.Superblock, reserve int64) error {
	if reserve == 0 {
		reserve = 1 << 20
	}
	if reserve < 64<<10 {
		return bad("superblock_size: too small (min 65536)")
	}
	for i := range devs {
		d := &devs[i]
		sb := common.Clone()
		sb.DevIdx = uint8(i)
		sectors := uint64(reserve / 512)
		size, bucket := uint64(d.Size)/512, uint64(d.BucketSize)/512
		maxBits := uint8(bits.Len64(sectors) - 1)
		second := (8 + sectors + uint64(sb.BlockSize) - 1) / uint64(sb.BlockSize) * uint64(sb.BlockSize)
		third := (size - 1<<maxBits) / bucket * bucket
		sb.Layout = ondisk.SBLayout{Magic: ondisk.SBMagic, MaxSizeBits: maxBits, Offsets: []uint64{8, second, third}}
		if second+sectors > third {
			return bad("%s: device too small for its superblocks", d.W.Info().Name)
		}
		sb.SetJournalBuckets(journalBuckets(sb, uint64(d.Size)/uint64(d.BucketSize), bucket))
		zero := make([]byte, 4096)
		copy(zero[7*512:], sb.Layout.Append(nil))
		if _, err := d.W.WriteAt(zero, 0); err != nil {
			return err
		}
		for _, off := range sb.Layout.Offsets {
			sb.Offset = off
			b := sb.Append(nil)
			b = append(b, make([]byte, (4096-len(b)%4096)%4096)...)
			if _, err := d.W.WriteAt(b, int64(off)*512); err != nil {
				return err
			}
		}
		if err := d.W.Flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// journalBuckets chooses the journal: the first buckets behind the front
// superblocks.
func journalBuckets(sb *ondisk.Superblock, nbuckets, size uint64) []uint64 {
	n := min(max(nbuckets/128, 8), 8192, 1<<24/size)
	n = max(n, 8)
	used := func(b uint64) bool {
		for i, off := range sb.Layout.Offsets {
			start, end := off, off+1<<sb.Layout.MaxSizeBits
			if i == 0 {
				start = 0
			}
			if b*size < end && start < (b+1)*size {
				return true
			}
		}
		return b == 0
	}
	var out []uint64
	for b := uint64(1); b < nbuckets && uint64(len(out)) < n; b++ {
		if !used(b) {
			out = append(out, b)
		}
	}
	return out
}
