// Package mkfs makes volumes: superblocks for new devices (chapter 01 section
// 7), which the writing engine then initializes like a first mount does, fills
// from a directory or a tar stream, and closes cleanly.
//
// The same input makes the same bytes, whatever the number of processors, when
// Options.Seed, UUID and Now are fixed: everything that decides what the volume
// looks like happens in one goroutine, in the order of the source; only reading,
// compressing, checksumming and writing run beside it.
package mkfs

import (
	"context"
	"fmt"
	"math"
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
	SuperblockBytes int64 // reservation of each copy, 0 for 1 MiB, less on tiny devices
	Encrypted       bool
	Passphrase      []byte // nil with Encrypted: the key is stored in the clear
	Now             func() time.Time
	// Seed makes everything random: uuids, hash seeds, node identities. It is not
	// allowed with Encrypted, as whoever knows the seed must not know more. Files
	// then get their time of modification for all times, as the others depend on
	// who made and read the source, and none later than Now.
	Seed func() uint64
	Warn func(error)
	// Source fills the volume; nil leaves it empty.
	Source Source
	// Progress is told of files and bytes done, from one goroutine.
	Progress func(files, bytes int64)
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

// Result says what Format made.
type Result struct {
	Super   *ondisk.Superblock   // of the first device
	Members []*ondisk.Superblock // of each device
	Stats   Stats
}

// Format writes a new, clean volume. Everything on the devices is lost. When it
// fails they hold no volume any more.
func Format(ctx context.Context, devs []Device, o Options) (*Result, error) {
	if len(devs) == 0 {
		return nil, bad("no device given")
	}
	lazies := make([]*lazy, len(devs))
	mine := make([]Device, len(devs))
	for i, d := range devs {
		lazies[i] = &lazy{Writer: d.W}
		mine[i] = d
		mine[i].W = lazies[i]
	}
	res, err := format(ctx, mine, lazies, o)
	if err != nil {
		for _, l := range lazies {
			l.wipe()
		}
		return nil, err
	}
	return res, nil
}

func format(ctx context.Context, devs []Device, lazies []*lazy, o Options) (*Result, error) {
	rw, err := Open(ctx, devs, o)
	if err != nil {
		return nil, err
	}
	res := &Result{}
	if o.Source != nil {
		im := newImporter(rw, &o)
		err := im.run(ctx, o.Source)
		im.close()
		if err != nil {
			return nil, err
		}
		res.Stats = im.stats
	}
	if err := rw.Store.Checkpoint(ctx, math.MaxUint64); err != nil {
		return nil, err
	}
	barrier := newBarrier(ctx, lazies)
	for _, l := range lazies {
		l.barrier.Store(&barrier)
	}
	if err := rw.Close(ctx); err != nil {
		return nil, err
	}
	if err := flushAll(ctx, lazies); err != nil {
		return nil, err
	}
	for _, d := range rw.WS.Devs {
		res.Members = append(res.Members, d.SB)
	}
	res.Super = rw.WS.Current()
	return res, nil
}

// Open makes a new volume and leaves it open to write, not yet clean.
func Open(ctx context.Context, devs []Device, o Options) (*engine.RW, error) {
	if len(devs) == 0 {
		return nil, bad("no device given")
	}
	if o.Version == 0 {
		o.Version = ondisk.Version1_13
	}
	if err := Makeable(o.Version); err != nil {
		return nil, err
	}
	if len(o.Label) >= ondisk.SBLabelSize {
		return nil, bad("label: too long (max %d bytes)", ondisk.SBLabelSize-1)
	}
	if o.Encrypted && o.Seed != nil {
		return nil, bad("seed: not with encryption, whose keys and nonces must not be foreseeable")
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
