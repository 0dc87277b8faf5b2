package bcachefs

import (
	"context"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/check"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// CheckOptions say what Check looks at. The zero value checks all metadata.
type CheckOptions struct {
	// Data reads and verifies every copy of every file's data, too.
	Data bool
	// Memory bounds the tables of buckets, inodes and data to verify, in bytes; 0
	// means DefaultCheckMemory. With less than a volume asks for, its btrees are
	// read several times.
	Memory int64
	// PerKind bounds how many findings of each kind are handed out; 0 means
	// DefaultCheckPerKind, negative no bound. All are counted.
	PerKind int
	// Found is called with each finding, one after the other, in an order that
	// depends on the volume alone.
	Found func(Finding)
	// Progress is called some times a second, from any goroutine.
	Progress func(CheckProgress)
}

// Defaults of CheckOptions.
const (
	DefaultCheckMemory  = check.DefaultMemory
	DefaultCheckPerKind = check.DefaultPerKind
)

// FindingNoID is the ID of findings that the format has no number for.
const FindingNoID = check.NoID

// Finding is one thing that Check found.
type Finding struct {
	Name string // as the format calls the error, or a name of our own
	ID   int    // number of the error in the format, or FindingNoID
	// Note: not wrong, but worth knowing.
	Note bool
	errs.Where
	Bucket int64  // bucket of the member Dev, -1 unknown
	Want   string // what is expected, "" when there is nothing to say
	Got    string
	File   string // path from the root directory, "" when not known
}

// String is the finding on one line.
func (f Finding) String() string { return check.Finding(f).String() }

// CheckProgress says how far a check is.
type CheckProgress struct {
	Stage string // what is being done
	Nodes int64  // btree nodes read; with little memory, some more than once
	Total int64  // btree nodes that there are
	Bytes int64  // of data verified
	// TotalBytes is about how much data there is to verify, 0 until known.
	TotalBytes int64
}

// CheckResult is the outcome of a check that was made.
type CheckResult struct {
	Version ondisk.Version
	// Shutdown: the volume was shut down properly. If not, it was checked as it
	// is after the replay of its journal.
	Shutdown bool
	// Errors and Notes count the findings by name.
	Errors, Notes map[string]int
	Passes        int   // over the btrees
	Nodes         int64 // btree nodes read
	Bytes         int64 // of data verified
	Stages        []CheckStage
	// Incomplete: parts could not be read, so that not everything was compared.
	Incomplete bool
}

// CheckStage is a part of a check.
type CheckStage struct {
	Name    string
	Seconds float64
}

// Bad is the number of errors found.
func (r *CheckResult) Bad() (n int) {
	for _, k := range r.Errors {
		n += k
	}
	return n
}

// Check looks for everything that is wrong in a volume: it recomputes what is
// derived from other things on its own and compares. It only reads; an unclean
// volume is checked as it is after the replay of its journal. What is wrong with
// the volume is in the findings and the result; the error says that the check
// could not be made: devices that do not open (errors of Open), a volume that was
// never initialized (errs.ErrUnsupported), or ctx.
//
// Missing members are a finding: with o.Degraded at DegradedVery what is there is
// checked.
func Check(ctx context.Context, devices []block.Reader, o Options, co CheckOptions) (*CheckResult, error) {
	opts := check.Options{Members: o.engine().Members, Data: co.Data, Memory: co.Memory, PerKind: co.PerKind}
	if co.Found != nil {
		opts.Found = func(f check.Finding) { co.Found(Finding(f)) }
	}
	if co.Progress != nil {
		opts.Progress = func(p check.Progress) { co.Progress(CheckProgress(p)) }
	}
	r, err := check.Run(ctx, devices, opts)
	if err != nil {
		return nil, err
	}
	out := &CheckResult{Version: r.Version, Shutdown: r.Clean, Errors: r.Errors, Notes: r.Notes, Passes: r.Passes, Nodes: r.Nodes, Bytes: r.Bytes, Incomplete: r.Incomplete}
	for _, s := range r.Stages {
		out.Stages = append(out.Stages, CheckStage(s))
	}
	return out, nil
}
