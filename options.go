package bcachefs

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/engine"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Degraded says how many members of a volume may be missing.
type Degraded int

// Degraded modes, as the mount option of the same name has them.
const (
	// DegradedNo refuses to open a volume with a member missing.
	DegradedNo Degraded = iota
	// DegradedYes opens it as long as everything has a copy that can be read.
	DegradedYes
	// DegradedVery opens it in any case; what has no copy left is an error for
	// the files concerned only.
	DegradedVery
)

// Options of Open. The zero value is what a careful user wants.
type Options struct {
	Degraded Degraded
	// SuperblockSector chooses the superblock copy to use; 0 takes the newest
	// good one.
	SuperblockSector uint64
	// NoSplitBrainCheck accepts members that were changed without each other.
	NoSplitBrainCheck bool
	// Passphrase is asked for the passphrase of an encrypted volume. uuid is the
	// external one. It is not asked when Key gives one.
	Passphrase func(ctx context.Context, uuid string) ([]byte, error)
	// Key is asked for the 32-byte key derived from the passphrase, as the
	// kernel's keyring holds it; (nil, nil) means that it has none.
	Key func(ctx context.Context, uuid string) ([]byte, error)
	// CacheBytes bounds the memory of cached btree nodes; 0 means 256 MiB.
	CacheBytes int64
	// Salvage reads on through btree nodes whose checksum does not match when
	// there is no good copy. What comes from them may be wrong: Files.Suspect
	// tells of which files.
	Salvage bool
	// Warn is told of damage that was worked around. It may be called from many
	// goroutines at once.
	Warn func(error)
}

// DefaultCacheBytes is the cache limit when the options name none.
const DefaultCacheBytes = 256 << 20

func (o Options) engine() engine.Options {
	e := engine.Options{CacheBytes: o.CacheBytes, Salvage: o.Salvage}
	if e.CacheBytes == 0 {
		e.CacheBytes = DefaultCacheBytes
	}
	e.Members = members.Options{SBSector: o.SuperblockSector, Degraded: members.Degraded(o.Degraded), NoSplitBrainCheck: o.NoSplitBrainCheck, Warn: o.Warn}
	if o.Key != nil || o.Passphrase != nil {
		e.Members.Key = o.passKey
	}
	return e
}

// passKey finds the key that opens the volume's own key.
func (o Options) passKey(ctx context.Context, sb *ondisk.Superblock) (*crypt.Key, error) {
	c, err := sb.Crypt()
	if err != nil {
		return nil, err
	}
	uuid := sb.UserUUID.String()
	if o.Key != nil {
		b, err := o.Key(ctx, uuid)
		if err != nil {
			return nil, err
		}
		if len(b) == len(crypt.Key{}) {
			return (*crypt.Key)(b), nil
		} else if b != nil {
			return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrPassphrase, Reason: "bad key", Want: "32 bytes", Got: fmt.Sprint(len(b))}
		}
	}
	if o.Passphrase == nil {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrLocked, Reason: "encrypted: run unlock, or give --passphrase-file"}
	}
	p, err := o.Passphrase(ctx, uuid)
	if err != nil {
		return nil, err
	}
	k, err := crypt.DeriveKey(p, c.KDFFlags)
	return &k, err
}

// DeriveKey computes the key that Options.Key wants from a passphrase, and
// checks that it opens the volume.
func DeriveKey(sb *ondisk.Superblock, passphrase []byte) ([]byte, error) {
	c, err := sb.Crypt()
	if err != nil {
		return nil, err
	}
	if c == nil || crypt.IsPlain(&c.Key) {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: "the volume needs no passphrase"}
	}
	k, err := crypt.DeriveKey(passphrase, c.KDFFlags)
	if err != nil {
		return nil, err
	}
	if _, err := crypt.OpenKey(&c.Key, &k, sb.UUID); err != nil {
		return nil, err
	}
	return k[:], nil
}

// NeedsPassphrase reports whether a volume is encrypted with a passphrase. A
// volume that stores its key in the clear needs none.
func NeedsPassphrase(sb *ondisk.Superblock) (bool, error) {
	c, err := sb.Crypt()
	return err == nil && c != nil && !crypt.IsPlain(&c.Key), err
}

// OpenDevices opens the devices that a device argument names, to read:
//
//	dev1:dev2:…            an explicit list; ':' does not split after a URL scheme or a drive letter
//	UUID=… or a bare uuid  the members of that volume among the machine's block devices (external uuid)
//	OLD_BLKID_UUID=…       the same
//	LABEL=…                the same by filesystem label
//
// A single block device of a volume with several members brings in the others
// by scanning. The caller closes what it gets.
func OpenDevices(ctx context.Context, spec string, o block.Options) ([]block.Reader, error) {
	key, val, ok := strings.Cut(spec, "=")
	if ok && (key == "UUID" || key == "OLD_BLKID_UUID") {
		u, err := ondisk.ParseUUID(strings.Trim(val, `"`))
		if err != nil {
			return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: "bad uuid " + val}
		}
		return scan(ctx, o, "UUID="+val, func(sb *ondisk.Superblock) bool { return sb.UserUUID == u })
	}
	if ok && key == "LABEL" {
		val = strings.Trim(val, `"`)
		return scan(ctx, o, spec, func(sb *ondisk.Superblock) bool { return sb.Label == val })
	}
	if u, err := ondisk.ParseUUID(spec); err == nil {
		if _, err := os.Stat(spec); err != nil {
			return scan(ctx, o, "UUID="+spec, func(sb *ondisk.Superblock) bool { return sb.UserUUID == u })
		}
	}
	names := block.SplitDevices(spec)
	rs, err := openAll(ctx, names, o)
	if err != nil || len(rs) != 1 || rs[0].Info().Kind != "blockdev" {
		return rs, err
	}
	sb, _, err := members.ReadSuper(ctx, rs[0], 0)
	if err != nil || sb.NrDevices < 2 {
		return rs, nil // opening the volume says what is wrong
	}
	all, err := scan(ctx, o, "", func(s *ondisk.Superblock) bool { return s.UUID == sb.UUID })
	if err != nil || len(all) < 2 {
		closeAll(all)
		return rs, nil
	}
	closeAll(rs)
	return all, nil
}

func openAll(ctx context.Context, names []string, o block.Options) ([]block.Reader, error) {
	if len(names) == 0 {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: "no device given"}
	}
	var rs []block.Reader
	for _, n := range names {
		r, err := block.Open(ctx, n, o)
		if err != nil {
			closeAll(rs)
			return nil, err
		}
		rs = append(rs, r)
	}
	return rs, nil
}

func closeAll(rs []block.Reader) {
	for _, r := range rs {
		_ = r.Close()
	}
}

// scan finds the members of one volume among the block devices of the machine.
func scan(ctx context.Context, o block.Options, what string, match func(*ondisk.Superblock) bool) ([]block.Reader, error) {
	names, err := block.List(ctx)
	if err != nil {
		return nil, err
	}
	var rs []block.Reader
	type member struct {
		index uint8
		seq   uint64
	}
	seen := map[member]bool{}
	var volume ondisk.UUID
	for _, n := range names {
		r, err := block.Open(ctx, n, o)
		if err != nil {
			continue
		}
		head := make([]byte, 4096)
		if _, err := r.ReadAt(head, members.DefaultSector*512); err != nil || !ondisk.HasSuperMagic(head) {
			_ = r.Close()
			continue
		}
		sb, _, err := members.ReadSuper(ctx, r, 0)
		if err != nil || !match(sb) {
			_ = r.Close()
			continue
		}
		if len(rs) > 0 && sb.UUID != volume {
			closeAll(append(rs, r))
			return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: what + " names more than one volume"}
		}
		volume = sb.UUID
		// The same member can show under several names (a disk and a mapping of it).
		if id := (member{sb.DevIdx, sb.Seq}); seen[id] {
			_ = r.Close()
			continue
		} else {
			seen[id] = true
		}
		rs = append(rs, r)
	}
	if len(rs) == 0 {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrNotBcachefs, Reason: "no device with " + what}
	}
	return rs, nil
}
