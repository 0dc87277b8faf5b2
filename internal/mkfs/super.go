package mkfs

import (
	"context"
	"fmt"
	"math/bits"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

const (
	minBuckets = 512
	// minBucket is the smallest bucket, in bytes, and it has at least eight blocks:
	// an entry of the journal must fit one, and so must a btree node with room for
	// several appends. The tools of 1.13 hang with buckets below 16 KiB.
	minBucket = 16 << 10
	// headRoom is how many buckets a new volume needs besides those of its
	// superblocks and its journal, at least.
	headRoom = 64
)

// bucketSize decides the bucket size of a device, in bytes (chapter 01 section
// 7.2, the rule of 1.13, but with at least 512 buckets). node is 0 when it was
// not asked for.
func bucketSize(d *Device, blockSize, node uint32) (uint32, error) {
	size := uint64(d.Size)
	least := max(8*blockSize, node, minBucket)
	b := d.BucketSize
	if b == 0 {
		b = max(least, 128<<10)
		if m := uint64(minBuckets) * uint64(b); size >= m {
			if l := bits.Len64(size/m) - 1; l/4 > 0 {
				b *= 1 << min(l/4, 20)
			}
			b = min(b, 1<<20)
		} else {
			for b > least && size < minBuckets*uint64(b) {
				b /= 2
			}
		}
	}
	switch {
	case bits.OnesCount32(b) != 1:
		return 0, bad("bucket_size: must be a power of two")
	case b < least:
		return 0, bad("bucket_size: too small (min %d)", least)
	case b/512 > 65535:
		return 0, bad("bucket_size: too big (max %d)", 16<<20)
	case size/uint64(b) < minBuckets:
		if d.BucketSize == 0 {
			return 0, refuse("device too small (min %d bytes)", minBuckets*uint64(least))
		}
		return 0, refuse("device too small (min %d bytes with buckets of %d)", minBuckets*uint64(b), b)
	case size/uint64(b) > ondisk.MemberMaxBuckets:
		return 0, bad("bucket_size: too small for the device (min %d)", size/ondisk.MemberMaxBuckets+1)
	}
	return b, nil
}

// refuse is an error about the devices rather than the arguments.
func refuse(format string, a ...any) error {
	return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: fmt.Sprintf(format, a...)}
}

// defaultBlock is the block size when none was asked for. Small blocks are for
// tiny devices, which would not have enough buckets else.
func defaultBlock(devs []Device) uint64 {
	tiny, fine := false, true
	for i := range devs {
		d := &devs[i]
		size := d.Size
		if size == 0 {
			size = d.W.Size()
		}
		tiny = tiny || size < minBuckets*64<<10
		fine = fine && d.W.Info().LogicalBlock <= 512
	}
	if tiny && fine {
		return 512
	}
	return 4096
}

// geometry fills in the sizes of the devices and the options that follow from
// them.
func geometry(sb *ondisk.Superblock, devs []Device, o *Options) error {
	blockSize := uint32(sb.BlockSize) * 512
	node, haveNode := o.Options["btree_node_size"]
	if haveNode && node <= uint64(blockSize) {
		return bad("btree_node_size: too small (a node is larger than a block of %d)", blockSize)
	}
	smallest := uint32(256 << 10)
	for i := range devs {
		d := &devs[i]
		if d.Size == 0 {
			d.Size = d.W.Size()
		}
		name := d.W.Info().Name
		if d.Size > d.W.Size() {
			return bad("fs_size: %s has %d bytes only", name, d.W.Size())
		}
		if l := d.W.Info().LogicalBlock; l > int(blockSize) {
			return bad("block_size: %s has blocks of %d", name, l)
		}
		b, err := bucketSize(d, blockSize, uint32(node))
		if err != nil {
			return at(name, err)
		}
		d.BucketSize = b
		smallest = min(smallest, b)
	}
	if haveNode {
		return nil
	}
	opt, _ := ondisk.FindOption("btree_node_size")
	return opt.Set(sb, uint64(smallest))
}

// at names the device an error is about.
func at(name string, err error) error {
	w := errs.Nowhere
	w.Path = name
	return errs.At(err, w)
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
			v = defaultBlock(devs)
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
	if err := geometry(sb, devs, o); err != nil {
		return nil, nil, err
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
	sb.SetDowngrade(ondisk.DowngradeTable(o.Version, 0, false))
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

// layout decides where the superblocks of a device go.
func layout(sb *ondisk.Superblock, d *Device, reserve int64) (ondisk.SBLayout, error) {
	size, bucket, block := uint64(d.Size)/512, uint64(d.BucketSize)/512, uint64(sb.BlockSize)
	if reserve == 0 {
		reserve = 1 << 20
		for reserve > 64<<10 && uint64(reserve/512)*64 > size {
			reserve /= 2
		}
	}
	if reserve < 64<<10 {
		return ondisk.SBLayout{}, bad("superblock_size: too small (min 65536)")
	}
	if reserve > 32<<20 {
		return ondisk.SBLayout{}, bad("superblock_size: too big (max %d)", 32<<20)
	}
	maxBits := uint8(bits.Len64(uint64(reserve/512)) - 1)
	sectors := uint64(1) << maxBits
	second := (ondisk.SBSector + sectors + block - 1) / block * block
	third := uint64(0)
	if size > sectors {
		third = (size - sectors) / bucket * bucket
	}
	l := ondisk.SBLayout{Magic: ondisk.SBMagic, MaxSizeBits: maxBits, Offsets: []uint64{ondisk.SBSector, second, third}}
	nb := uint64(d.Size) / uint64(d.BucketSize)
	used := (second+sectors+bucket-1)/bucket + (sectors+bucket-1)/bucket + 1 + journalSize(nb, bucket)
	if second+sectors > third || used+headRoom > nb {
		return l, refuse("device too small for superblocks of %d bytes and buckets of %d", sectors*512, d.BucketSize)
	}
	return l, nil
}

// write puts the superblock on all devices: the layout at sector 7 and all
// copies. What would make another system take them for something else goes.
func write(ctx context.Context, devs []Device, common *ondisk.Superblock, reserve int64) error {
	layouts := make([]ondisk.SBLayout, len(devs))
	for i := range devs {
		var err error
		if layouts[i], err = layout(common, &devs[i], reserve); err != nil {
			return at(devs[i].W.Info().Name, err)
		}
	}
	for i := range devs {
		d := &devs[i]
		sb := common.Clone()
		sb.DevIdx, sb.Layout = uint8(i), layouts[i]
		note(d.W, &sb.Layout)
		offs := sb.Layout.Offsets
		if err := blank(d.W, 0, int64(offs[1])*512+512<<sb.Layout.MaxSizeBits); err != nil {
			return err
		}
		if err := blank(d.W, int64(offs[2])*512, d.Size); err != nil {
			return err
		}
		sb.SetJournalBuckets(journalBuckets(sb, uint64(d.Size)/uint64(d.BucketSize), uint64(d.BucketSize)/512))
		sector := make([]byte, 4096)
		copy(sector[7*512:], sb.Layout.Append(nil))
		if _, err := d.W.WriteAt(sector, 0); err != nil {
			return err
		}
		for _, off := range offs {
			sb.Offset = off
			b := sb.Append(nil)
			if len(b) > 512<<sb.Layout.MaxSizeBits {
				return bad("superblock_size: too small (min %d)", len(b))
			}
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

// journalSize is the number of buckets of the journal of a device (chapter 01
// section 5.8), more on devices with small buckets: at least 512 KiB.
func journalSize(nbuckets, size uint64) uint64 {
	return max(min(nbuckets/128, 8192, 1<<24/size), 8, 1024/size)
}

// journalBuckets chooses the journal: the first buckets behind the front
// superblocks.
func journalBuckets(sb *ondisk.Superblock, nbuckets, size uint64) []uint64 {
	n := journalSize(nbuckets, size)
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
