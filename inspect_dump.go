package bcachefs

import (
	"context"
	"errors"
	"io"

	"github.com/gobcachefs/gobcachefs/internal/dump"
)

// DumpSanitize says what a dump makes unreadable.
type DumpSanitize = dump.Sanitize

// Levels of DumpSanitize.
const (
	// DumpEverything takes metadata as it is. Tiny files and symlinks are part
	// of it.
	DumpEverything = dump.SanitizeNothing
	// DumpNoData blanks what files hold: inline data, values of xattrs other than
	// ACLs.
	DumpNoData = dump.SanitizeData
	// DumpNoNames also replaces the names of files and xattrs. The check then
	// finds that names and hashes disagree.
	DumpNoNames = dump.SanitizeNames
)

// DumpOptions of Inspector.Dump.
type DumpOptions struct {
	Sanitize      DumpSanitize
	NoJournal     bool // without journal entries that a mount does not need
	SingleReplica bool // one copy of each node only
	// Warn is told of what could not be taken.
	Warn func(error)
	// Progress is told how much of how much was done, in bytes.
	Progress func(done, total int64)
}

// DumpStats counts what an image holds, in bytes.
type DumpStats = dump.Stats

// DumpFile is where an image is written to.
type DumpFile interface {
	io.WriterAt
	io.Closer
}

// Dump writes the metadata of the volume as qcow2 images, one for each member
// that is here: superblocks, journal, and all btree nodes that something points
// to. The data of files is not part of it, except what the keys themselves hold.
// create gives the file for a member; it is closed here.
//
// A volume that was opened by OpenDevices can be read back from the images, as
// far as its metadata goes.
func (i *Inspector) Dump(ctx context.Context, o DumpOptions, create func(member int) (DumpFile, error)) (map[int]DumpStats, error) {
	d, err := dump.Plan(ctx, i.e.Set, i.e.State, dump.Options{Sanitize: o.Sanitize, NoJournal: o.NoJournal, SingleReplica: o.SingleReplica, Warn: o.Warn})
	if err != nil {
		return nil, err
	}
	var done, total int64
	for _, m := range d.Members() {
		total += d.Bytes(m)
	}
	stats := map[int]DumpStats{}
	for _, m := range d.Members() {
		f, err := create(m)
		if err != nil {
			return stats, err
		}
		st, err := d.Write(ctx, m, f, func(n int64) {
			if done += n; o.Progress != nil {
				o.Progress(done, total)
			}
		})
		if err = errors.Join(err, f.Close()); err != nil {
			return stats, err
		}
		stats[m] = st
	}
	return stats, nil
}
