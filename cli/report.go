package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"syscall"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/errs"
)

// errText is the text of an error for people: "PATH: why".
func errText(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) && err == error(pe) {
		return escapeName(pe.Path) + ": " + oneLine(pe.Err.Error())
	}
	var e *errs.Error
	if errors.As(err, &e) && e.Kind == errs.ErrNotBcachefs && e.Path != "" {
		found := "nothing known"
		if e.Want == "" && e.Got != "" {
			found = e.Got // a signature
		}
		return oneLine(fmt.Sprintf("%s: no bcachefs superblock (found: %s)", escapeName(e.Path), found))
	}
	return oneLine(err.Error())
}

// reason is the text of an error about a path that is named beside it.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) && err == error(pe) {
		err = pe.Err
	}
	return oneLine(err.Error())
}

// maxFailures bounds the failures that are remembered for JSON.
const maxFailures = 100_000

// failure is a file that something was wrong with.
type failure struct {
	Path    string `json:"path"`
	PathRaw string `json:"path_base64,omitempty"`
	// Error says what failed, or with Suspect why what was read may be wrong.
	Error   string `json:"error"`
	Suspect bool   `json:"possibly_wrong,omitempty"`
}

// report collects what a command could not do and goes on after. Safe for
// concurrent use.
type report struct {
	a   *app
	cmd string

	mu       sync.Mutex
	failed   int
	suspects int
	list     []failure
	last     failure
}

func (a *app) report(cmd string) *report { return &report{a: a, cmd: cmd} }

// fail says that something is wrong with a file, once. Errors of a run that was
// canceled are not told: it is over anyway.
func (r *report) fail(path string, err error) {
	if r.a.ctx.Err() != nil && errors.Is(err, r.a.ctx.Err()) {
		return
	}
	r.add(failure{Path: path, PathRaw: rawBytes(path), Error: reason(err)})
}

// suspect says that what was read of a file may be wrong.
func (r *report) suspect(path string, err error) {
	r.add(failure{Path: path, PathRaw: rawBytes(path), Error: reason(err), Suspect: true})
}

// check calls suspect if something is known against a file. Ask after reading.
func (r *report) check(path string, files *bcachefs.Files, id bcachefs.NodeID) {
	if err := files.Suspect(id); err != nil {
		r.suspect(path, err)
	}
}

func (r *report) add(f failure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f == r.last {
		return // a directory that fails to list fails to stat too
	}
	r.last = f
	if f.Suspect {
		r.suspects++
	} else {
		r.failed++
	}
	if len(r.list) < maxFailures {
		r.list = append(r.list, f)
	}
	why := f.Error
	if f.Suspect {
		why = "possibly wrong: " + why
	}
	fmt.Fprintf(r.a.Err, "gobcachefs: %s: %s: %s\n", r.cmd, escapeName(f.Path), why)
}

// note says something that is no failure.
func (r *report) note(format string, a ...any) {
	fmt.Fprintf(r.a.Err, "gobcachefs: %s: %s\n", r.cmd, oneLine(fmt.Sprintf(format, a...)))
}

// failures are the failures so far, never nil.
func (r *report) failures() []failure {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]failure{}, r.list...)
}

// err is what the command ends with: interrupted, errFailed or nil.
func (r *report) err() error {
	if err := r.a.ctx.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed+r.suspects > 0 {
		return errFailed
	}
	return nil
}

// summary closes the list of failures of a long run with their number.
func (r *report) summary(of int64, what string) {
	r.mu.Lock()
	failed, suspects := r.failed, r.suspects
	r.mu.Unlock()
	if failed > 0 {
		r.note("%d failed of %d %s (listed above)", failed, of, what)
	}
	if suspects > 0 {
		r.note("%d possibly wrong (listed above)", suspects)
	}
}

// notDir and isDir are what a path gets that is not what the command needs.
var (
	errNotDir error = syscall.ENOTDIR
	errIsDir  error = syscall.EISDIR
)

// wrongType says that a directory entry and its inode disagree on the type.
func wrongType(entry, inode uint32) error {
	return errs.Corruptf("dirent_d_type_wrong", "entry says %s, inode says %s", typeName(entry), typeName(inode))
}
