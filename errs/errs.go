// Package errs names everything that can be wrong with a volume.
//
// It is a leaf: it imports nothing of this module, so that callers of the
// public packages ondisk and block can name what they get. Three layers:
//
//   - sentinel kinds (ErrCorrupt, ErrChecksum, …) to test with errors.Is;
//   - Error, one finding pinned to a place (Where), with a stable Reason that
//     the check, the JSON output and docs/compat.md share;
//   - POSIX error numbers, which sit inside the chain as syscall.Errno, so that
//     errors.Is(err, fs.ErrNotExist) works. Only front ends convert, with Errno.
package errs

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// Kinds. A returned error matches at most a few of them; the most specific one
// is what a program should act on.
var (
	// ErrNotBcachefs: no superblock magic where one must be.
	ErrNotBcachefs = errors.New("not a bcachefs volume")
	// ErrVersion: the format version is outside of what this program opens.
	ErrVersion = errors.New("unsupported format version")
	// ErrFeature: an incompatible feature bit that this program does not know.
	ErrFeature = errors.New("unsupported feature")
	// ErrUnsupported: known, named, and refused.
	ErrUnsupported = errors.New("not supported")
	// ErrCorrupt: bytes that break a rule of the format.
	ErrCorrupt = errors.New("corrupt")
	// ErrChecksum: a checksum or MAC that does not match. Also matches ErrCorrupt.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrIO: the device failed to deliver.
	ErrIO = errors.New("input/output error")
	// ErrMissingDevice: the member that holds the bytes is not present.
	ErrMissingDevice = errors.New("member missing")
	// ErrDegraded: members are missing and the options do not allow that.
	ErrDegraded = errors.New("volume degraded")
	// ErrSplitBrain: members were changed without each other.
	ErrSplitBrain = errors.New("split brain")
	// ErrLocked: the volume is encrypted and no key was given.
	ErrLocked = errors.New("encrypted")
	// ErrPassphrase: the passphrase or key does not open the volume.
	ErrPassphrase = errors.New("incorrect passphrase")
	// ErrReadOnly: a change was asked of something opened to read.
	ErrReadOnly = errors.New("read-only")
	// ErrBusy: somebody else uses the device.
	ErrBusy = errors.New("device busy")
	// ErrUsage: an argument or option that makes no sense.
	ErrUsage = errors.New("bad usage")
)

// Where pins a finding to a place. Fields that are unknown keep the value of
// Nowhere and are not printed. Numbers are plain integers in the units of the
// format: sectors of 512 bytes, btree ids of chapter 02 section 7.
type Where struct {
	Path     string // device name or file path that led here
	Dev      int    // member index, -1 unknown
	Sector   int64  // device sector, -1 unknown
	Btree    int    // btree id, -1 unknown
	Level    int    // btree level, -1 unknown
	HasPos   bool   // Inode, Offset, Snapshot are valid
	Inode    uint64
	Offset   uint64
	Snapshot uint32
	Seq      uint64 // journal sequence number, 0 unknown
}

// Nowhere is the Where with every field unknown.
var Nowhere = Where{Dev: -1, Sector: -1, Btree: -1, Level: -1}

// BtreeName gives the name that messages use for a btree id; ondisk installs it.
var BtreeName = func(id int) string { return fmt.Sprintf("btree %d", id) }

// String lists the known fields, most significant first.
func (w Where) String() string {
	var p []string
	add := func(f string, a ...any) { p = append(p, fmt.Sprintf(f, a...)) }
	if w.Path != "" {
		add("%s", w.Path)
	}
	if w.Dev >= 0 {
		add("member %d", w.Dev)
	}
	if w.Sector >= 0 {
		add("sector %d", w.Sector)
	}
	if w.Seq != 0 {
		add("journal seq %d", w.Seq)
	}
	if w.Btree >= 0 {
		add("btree %s", BtreeName(w.Btree))
	}
	if w.Level >= 0 {
		add("level %d", w.Level)
	}
	if w.HasPos {
		add("position %d:%d:%d", w.Inode, w.Offset, w.Snapshot)
	}
	return strings.Join(p, ", ")
}

// Error is one finding: what was wrong, where, what was expected and what was
// found. Kind is one of the sentinels above (or a syscall.Errno), Reason a
// stable lower-case name (the error names of chapter 01 appendix A where one
// fits), Cause an underlying error.
type Error struct {
	Where
	Kind   error
	Reason string
	Want   string // expected, "" when meaningless
	Got    string // found
	Cause  error
}

// Error prints one line: reason, place, expected and found, cause.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Reason != "" {
		b.WriteString(e.Reason)
	} else if e.Kind != nil {
		b.WriteString(e.Kind.Error())
	}
	if w := e.Where.String(); w != "" {
		b.WriteString(" at " + w)
	}
	if e.Want != "" {
		b.WriteString(": expected " + e.Want + ", found " + e.Got)
	} else if e.Got != "" {
		b.WriteString(": found " + e.Got)
	}
	if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	return b.String()
}

// Unwrap gives the kind and the cause. A checksum mismatch is also corruption,
// and corruption is EIO to a caller that only knows POSIX.
func (e *Error) Unwrap() []error {
	var u []error
	if e.Kind != nil {
		u = append(u, e.Kind)
	}
	if e.Kind == ErrChecksum {
		u = append(u, ErrCorrupt)
	}
	if e.Cause != nil {
		u = append(u, e.Cause)
	}
	return u
}

// Corrupt makes a corruption finding at a place.
func Corrupt(w Where, reason, want, got string) *Error {
	return &Error{Where: w, Kind: ErrCorrupt, Reason: reason, Want: want, Got: got}
}

// Corruptf makes a corruption finding without a place; callers that know the
// place fill in Where with At.
func Corruptf(reason, format string, a ...any) *Error {
	return &Error{Where: Nowhere, Kind: ErrCorrupt, Reason: reason, Got: fmt.Sprintf(format, a...)}
}

// At returns err with the unknown fields of its place filled in from w. An err
// that is not itself an *Error becomes the cause of a new one at w.
func At(err error, w Where) error {
	if err == nil {
		return nil
	}
	e, ok := err.(*Error)
	if !ok {
		return &Error{Where: w, Cause: err}
	}
	c := *e
	if c.Path == "" {
		c.Path = w.Path
	}
	if c.Dev < 0 {
		c.Dev = w.Dev
	}
	if c.Sector < 0 {
		c.Sector = w.Sector
	}
	if c.Btree < 0 {
		c.Btree = w.Btree
	}
	if c.Level < 0 {
		c.Level = w.Level
	}
	if !c.HasPos && w.HasPos {
		c.HasPos, c.Inode, c.Offset, c.Snapshot = true, w.Inode, w.Offset, w.Snapshot
	}
	if c.Seq == 0 {
		c.Seq = w.Seq
	}
	return &c
}

// Errno is the one conversion to a POSIX error number, for front ends.
// nil gives 0; an error that names no number and no kind gives EIO.
func Errno(err error) syscall.Errno {
	var n syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &n):
		return n
	case errors.Is(err, fs.ErrNotExist):
		return syscall.ENOENT
	case errors.Is(err, fs.ErrExist):
		return syscall.EEXIST
	case errors.Is(err, fs.ErrPermission):
		return syscall.EACCES
	case errors.Is(err, ErrReadOnly):
		return syscall.EROFS
	case errors.Is(err, ErrBusy):
		return syscall.EBUSY
	case errors.Is(err, ErrUsage):
		return syscall.EINVAL
	case errors.Is(err, ErrUnsupported), errors.Is(err, ErrFeature), errors.Is(err, ErrVersion):
		return syscall.ENOTSUP
	}
	return syscall.EIO
}
