package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/errs"
)

func init() { commands = append(commands, newCatCmd) }

func newCatCmd(a *app) *cobra.Command {
	var vf volumeFlags
	var offset, length int64
	var ignore, progress bool
	cmd := &cobra.Command{
		Use:   "cat VOLUME PATH...",
		Short: "Write the contents of files of a volume to standard output",
		Long: `Write the contents of files of a volume to standard output. Symlinks are followed
inside of the volume.

Where a file cannot be read the command ends with an error after the bytes before
that place. With --ignore-errors zeros take the place of what cannot be read; the
exit code is 1 all the same.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if offset < 0 || cmd.Flags().Changed("length") && length < 0 {
				return usageErr("offset and length must not be negative")
			}
			if !cmd.Flags().Changed("length") {
				length = -1
			}
			return a.withTree(cmd, &vf, args, 1, -1, func(t *tree, paths []string) error {
				c := &cat{tree: t, ignore: ignore, out: newHoleWriter(a.Out), pool: newChunkPool()}
				c.p = a.startProgress("wrote", progress)
				defer c.p.finish()
				for _, p := range paths {
					if err := c.file(p, offset, length); err != nil {
						return err
					}
				}
				return c.out.finish()
			})
		},
	}
	vf.add(cmd)
	fl := cmd.Flags()
	fl.Int64Var(&offset, "offset", 0, "start at byte `N` of each file")
	fl.Int64Var(&length, "length", 0, "write at most `N` bytes of each file")
	fl.BoolVar(&ignore, "ignore-errors", false, "zeros for what cannot be read")
	progressFlag(cmd, &progress)
	return cmd
}

type cat struct {
	*tree
	ignore bool
	out    *holeWriter
	pool   *chunkPool
	p      *progress
}

// file writes one file. Failures are reported; the error ends the command.
func (c *cat) file(path string, offset, length int64) error {
	a, ok := c.stat(path, true)
	if !ok {
		return c.ctx.Err()
	}
	h, err := c.files.Open(c.ctx, a.ID)
	if err != nil {
		c.fail(path, err)
		return c.ctx.Err()
	}
	end := int64(h.Attr().Size)
	if length >= 0 && length < end-offset {
		end = offset + length
	}
	if end > offset {
		err = c.copy(c.ctx, path, h, offset, end)
	}
	c.p.files.Add(1)
	c.r.check(path, c.files, a.ID)
	return err
}

// copy writes the bytes [off, end) of a file.
func (c *cat) copy(ctx context.Context, path string, h *bcachefs.Handle, off, end int64) error {
	m, err := mapFile(ctx, h, off, end)
	if err != nil {
		return err
	}
	at := off
	// bad says what could not be read, and whether to go on with zeros.
	bad := func(list []badRange) error {
		for _, b := range list {
			c.fail(path, badError(b))
			if !c.ignore {
				if err := c.out.finish(); err != nil {
					return err
				}
				return errFailed
			}
		}
		return nil
	}
	// gap writes what is no data up to a place.
	gap := func(to int64) error {
		for len(m.lost) > 0 && m.lost[0].off < to {
			b := m.lost[0]
			m.lost = m.lost[1:]
			if err := c.out.zeros(b.off - at); err != nil {
				return err
			}
			at = b.off
			if err := bad([]badRange{b}); err != nil {
				return err
			}
		}
		n := to - at
		at = to
		c.p.bytes.Add(n)
		return c.out.zeros(n)
	}
	err = c.pool.each(ctx, h, m.data, func(k *chunk) error {
		buf := k.buf
		for _, s := range k.segs {
			if err := gap(s.off); err != nil {
				return err
			}
			b := buf[:s.n]
			buf = buf[s.n:]
			if len(k.bad) > 0 && !c.ignore && k.bad[0].off < s.off+int64(s.n) {
				b = b[:k.bad[0].off-s.off] // what is before it is good
			}
			if err := c.out.write(b); err != nil {
				return err
			}
			c.p.bytes.Add(int64(len(b)))
			if len(b) < s.n {
				return bad(k.bad)
			}
			at = s.off + int64(s.n)
		}
		return bad(k.bad)
	})
	if err != nil {
		return err
	}
	return gap(end)
}

// badError says what could not be read of a file.
func badError(b badRange) error {
	return fmt.Errorf("%d bytes at offset %d cannot be read: %w", b.n, b.off, b.err)
}

// fileMap is what is known of the layout of a file: parts with data and parts of
// which nothing is known. The rest is holes.
type fileMap struct {
	data []bcachefs.DataRange
	lost []badRange
}

// mapFile gives the map of the part [off, end) of a file.
func mapFile(ctx context.Context, h *bcachefs.Handle, off, end int64) (fileMap, error) {
	var m fileMap
	known, lost, err := h.Map(ctx)
	if err != nil {
		return m, err
	}
	for _, r := range known {
		r.Start, r.End = max(r.Start, uint64(off)), min(r.End, uint64(end))
		if r.Start >= r.End {
			continue
		}
		if k := len(m.data); k > 0 && m.data[k-1].End == r.Start {
			m.data[k-1].End = r.End
			continue
		}
		m.data = append(m.data, r)
	}
	for _, l := range lost {
		s, e := max(l.Start, uint64(off)), min(l.End, uint64(end))
		if s < e {
			m.lost = append(m.lost, badRange{int64(s), int64(e - s), l.Err})
		}
	}
	return m, nil
}

// bytes is how much data there is.
func (m *fileMap) bytes() (n int64) {
	for _, r := range m.data {
		n += int64(r.End - r.Start)
	}
	return n
}

// holeWriter writes data and runs of zeros. Where the output is a regular file
// at its end, zeros are left out and become holes.
type holeWriter struct {
	w       io.Writer
	f       *os.File // nil: zeros are written
	pending int64    // zeros left out at the end of f
	zero    []byte
}

func newHoleWriter(w io.Writer) *holeWriter {
	h := &holeWriter{w: w}
	f, ok := w.(*os.File)
	if !ok || appends(f) {
		return h
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return h
	}
	if at, err := f.Seek(0, io.SeekCurrent); err == nil && at == st.Size() {
		h.f = f
	}
	return h
}

func (h *holeWriter) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if h.pending > 0 {
		if _, err := h.f.Seek(h.pending, io.SeekCurrent); err != nil {
			return err
		}
		h.pending = 0
	}
	_, err := h.w.Write(p)
	return err
}

func (h *holeWriter) zeros(n int64) error {
	if h.f != nil {
		h.pending += max(n, 0)
		return nil
	}
	if h.zero == nil && n > 0 {
		h.zero = make([]byte, 256<<10)
	}
	for n > 0 {
		m := min(n, int64(len(h.zero)))
		if _, err := h.w.Write(h.zero[:m]); err != nil {
			return err
		}
		n -= m
	}
	return nil
}

// finish gives a file that ends in zeros its length.
func (h *holeWriter) finish() error {
	if h.pending == 0 {
		return nil
	}
	at, err := h.f.Seek(h.pending, io.SeekCurrent)
	if err != nil {
		return err
	}
	h.pending = 0
	if err := h.f.Truncate(at); err != nil {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrIO, Reason: "length of the output", Cause: err}
	}
	return nil
}
