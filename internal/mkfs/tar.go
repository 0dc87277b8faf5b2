package mkfs

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// TarSource is a tar stream (ustar, PAX, GNU; sparse files, extended attributes
// and ACLs of any of the usual writers), plain or compressed with gzip, bzip2 or
// zstd. Later entries replace earlier ones; directories without an entry are
// made. lost+found in the root is left out.
type TarSource struct{ R io.Reader }

// tarNode is a file that an archive made so far.
type tarNode struct {
	*node
	typ   uint16
	kids  map[string]*tarNode // of directories
	given bool                // an entry described it
}

// tarWalk is one pass through an archive.
type tarWalk struct {
	*importer
	root *tarNode
}

func (s *TarSource) walk(ctx context.Context, im *importer) error {
	r, done, err := unpack(s.R)
	if err != nil {
		return err
	}
	defer done()
	w := &tarWalk{importer: im, root: &tarNode{node: im.root, typ: ondisk.ModeDir, kids: map[string]*tarNode{}}}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("tar: %w", err)
		}
		if err := w.entry(ctx, t, h); err != nil {
			return fmt.Errorf("tar: %q: %w", h.Name, err)
		}
	}
}

// unpack takes off a compression.
func unpack(r io.Reader) (io.Reader, func(), error) {
	b := bufio.NewReaderSize(r, 1<<20)
	head, err := b.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(b)
		return z, func() {}, err
	case bytes.HasPrefix(head, []byte("BZh")):
		return bzip2.NewReader(b), func() {}, nil
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ")):
		return nil, nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "tar: compressed with xz; unpack it first"}
	}
	return b, func() {}, nil
}

func tarBad(format string, a ...any) error {
	return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrCorrupt, Reason: fmt.Sprintf(format, a...)}
}

// split gives the components of a name.
func split(name string) ([]string, error) {
	var parts []string
	for p := range strings.SplitSeq(name, "/") {
		switch {
		case p == "", p == ".":
			continue
		case p == "..":
			return nil, tarBad("name leads out of its directory")
		}
		if err := objects.CheckName([]byte(p)); err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// entry takes in one entry.
func (w *tarWalk) entry(ctx context.Context, r io.Reader, h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	parts, err := split(h.Name)
	if err != nil {
		return err
	}
	if len(parts) > 0 && parts[0] == "lost+found" {
		return nil
	}
	spec, err := w.spec(h)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		if spec.Mode&ondisk.ModeTypeMask != ondisk.ModeDir {
			return tarBad("the root must be a directory")
		}
		return w.describe(ctx, w.root, spec)
	}
	dir, err := w.dir(ctx, parts[:len(parts)-1], &spec)
	if err != nil {
		return err
	}
	name := parts[len(parts)-1]
	old := dir.kids[name]
	if h.Typeflag == tar.TypeLink {
		return w.link(ctx, dir, name, old, h.Linkname)
	}
	typ := spec.Mode & ondisk.ModeTypeMask
	if old != nil && typ == ondisk.ModeDir && old.typ == ondisk.ModeDir {
		return w.describe(ctx, old, spec)
	}
	if err := w.clear(ctx, dir, name, old); err != nil {
		return err
	}
	n := &tarNode{node: &node{up: dir.node, name: name}, typ: typ, given: true}
	if typ == ondisk.ModeDir {
		n.kids = map[string]*tarNode{}
	}
	dir.kids[name] = n
	j := &job{kind: objects.StepCreate, node: n.node, spec: spec}
	switch typ {
	case ondisk.ModeRegular:
		return w.data(ctx, r, j, h)
	case ondisk.ModeSymlink:
		return w.add(ctx, j, int64(len(spec.Target)), func(j *job) error { w.target(j, j.spec.Target); return nil })
	}
	return w.add(ctx, j, 0, nil)
}

// spec describes the file of an entry.
func (w *tarWalk) spec(h *tar.Header) (objects.Spec, error) {
	var s objects.Spec
	switch h.Typeflag {
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse, tar.TypeLink:
		s.Mode = ondisk.ModeRegular
	case tar.TypeDir:
		s.Mode = ondisk.ModeDir
	case tar.TypeSymlink:
		s.Mode, s.Target = ondisk.ModeSymlink, []byte(h.Linkname)
		if len(s.Target) == 0 || len(s.Target) > 4095 || bytes.IndexByte(s.Target, 0) >= 0 {
			return s, tarBad("link target of %d bytes", len(s.Target))
		}
	case tar.TypeChar:
		s.Mode = ondisk.ModeChar
	case tar.TypeBlock:
		s.Mode = ondisk.ModeBlock
	case tar.TypeFifo:
		s.Mode = ondisk.ModeFifo
	default:
		return s, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: fmt.Sprintf("entry of type %q", h.Typeflag)}
	}
	s.Mode |= uint16(h.Mode & 0o7777)
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > math.MaxUint32 || int64(h.Gid) > math.MaxUint32 {
		return s, tarBad("owner %d:%d", h.Uid, h.Gid)
	}
	s.UID, s.GID = uint32(h.Uid), uint32(h.Gid)
	if s.Mode&ondisk.ModeTypeMask == ondisk.ModeChar || s.Mode&ondisk.ModeTypeMask == ondisk.ModeBlock {
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return s, tarBad("device number %d:%d", h.Devmajor, h.Devminor)
		}
		s.RdevMajor, s.RdevMinor = uint32(h.Devmajor), uint32(h.Devminor)
	}
	or := func(t, e time.Time) time.Time {
		if t.IsZero() {
			return e
		}
		return t
	}
	s.Mtime = or(h.ModTime, time.Unix(0, 0))
	s.Atime, s.Ctime = or(h.AccessTime, s.Mtime), or(h.ChangeTime, s.Mtime)
	s.Xattrs = w.keep("/"+h.Name, w.xattrs(h))
	return s, nil
}

// xattrs are the attributes and ACLs of an entry, in order of their names.
func (w *tarWalk) xattrs(h *tar.Header) []objects.Xattr {
	m := map[string][]byte{}
	lost := func(name string) {
		w.warn(fmt.Errorf("/%s: %s left out: not understood", h.Name, name))
		w.lost.Add(1)
	}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "LIBARCHIVE.xattr."); ok {
			name, err := url.PathUnescape(name)
			b, err2 := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
			if err != nil || err2 != nil {
				lost(k)
			} else {
				m[name] = b
			}
		}
	}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			m[strings.NewReplacer("%3D", "=", "%25", "%").Replace(name)] = []byte(v)
		}
	}
	for rec, name := range map[string]string{"SCHILY.acl.access": "system.posix_acl_access", "SCHILY.acl.default": "system.posix_acl_default"} {
		text, ok := h.PAXRecords[rec]
		if _, have := m[name]; !ok || have || text == "" {
			continue
		}
		b, ok := parseACL(text)
		if !ok {
			lost(rec)
			continue
		}
		m[name] = b
	}
	var out []objects.Xattr
	for name, v := range m {
		out = append(out, objects.Xattr{Name: name, Value: v})
	}
	slices.SortFunc(out, func(a, b objects.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// dir finds a directory and makes what is missing on the way: owned by root, with
// the times of the file they are needed for.
func (w *tarWalk) dir(ctx context.Context, parts []string, s *objects.Spec) (*tarNode, error) {
	d := w.root
	for i, p := range parts {
		k := d.kids[p]
		if k == nil {
			k = &tarNode{node: &node{up: d.node, name: p}, typ: ondisk.ModeDir, kids: map[string]*tarNode{}}
			spec := objects.Spec{Mode: ondisk.ModeDir | 0o755, Atime: s.Atime, Mtime: s.Mtime, Ctime: s.Ctime}
			if err := w.add(ctx, &job{kind: objects.StepCreate, node: k.node, spec: spec}, 0, nil); err != nil {
				return nil, err
			}
			d.kids[p] = k
		}
		if k.typ != ondisk.ModeDir {
			return nil, fmt.Errorf("/%s: %w", path.Join(parts[:i+1]...), syscall.ENOTDIR)
		}
		d = k
	}
	return d, nil
}

// describe gives a directory that exists what an entry says of it.
func (w *tarWalk) describe(ctx context.Context, n *tarNode, s objects.Spec) error {
	if n.given && len(s.Xattrs) == 0 && n != w.root {
		w.warn(fmt.Errorf("%s: described twice; extended attributes of the first time stay", n.path()))
	}
	n.given = true
	return w.add(ctx, &job{kind: objects.StepSet, node: n.node, spec: s}, 0, nil)
}

// clear removes what an entry replaces.
func (w *tarWalk) clear(ctx context.Context, dir *tarNode, name string, old *tarNode) error {
	if old == nil {
		return nil
	}
	if old.typ == ondisk.ModeDir {
		return syscall.EISDIR
	}
	delete(dir.kids, name)
	return w.add(ctx, &job{node: old.node, barrier: func(ctx context.Context) error {
		_, err := w.w.Unlink(ctx, objects.ID{Subvol: objects.Root.Subvol, Inum: dir.Inum}, []byte(name))
		return err
	}}, 0, nil)
}

// link makes a further name of a file.
func (w *tarWalk) link(ctx context.Context, dir *tarNode, name string, old *tarNode, target string) error {
	parts, err := split(target)
	if err != nil {
		return fmt.Errorf("target %q: %w", target, err)
	}
	t := w.root
	for _, p := range parts {
		if t = t.kids[p]; t == nil {
			return fmt.Errorf("target %q: %w", target, syscall.ENOENT)
		}
	}
	switch {
	case t.typ == ondisk.ModeDir:
		return fmt.Errorf("target %q: %w", target, syscall.EPERM)
	case old == t:
		return nil
	}
	if err := w.clear(ctx, dir, name, old); err != nil {
		return err
	}
	// The same file under another name: its node stays that of the first.
	dir.kids[name] = t
	return w.add(ctx, &job{kind: objects.StepLink, node: t.node, dir: dir.node, name: name}, 0, nil)
}

// data takes in the data of a regular file.
func (w *tarWalk) data(ctx context.Context, r io.Reader, j *job, h *tar.Header) error {
	size := h.Size
	j.spec.Size = uint64(size)
	n, inline := j.node, size <= int64(w.w.InlineMax())
	sparse := h.Typeflag == tar.TypeGNUSparse
	for k := range h.PAXRecords {
		sparse = sparse || strings.HasPrefix(k, "GNU.sparse.")
	}
	block := int64(w.w.Bytes.Block())
	for off := int64(0); off < size || off == 0; off += chunk {
		part := min(chunk, size-off)
		if off > 0 {
			j = &job{kind: objects.StepExtend, node: n}
		}
		if err := w.reserve(ctx, j, part); err != nil {
			return err
		}
		var p []byte
		switch {
		case part == 0:
		case inline:
			p = make([]byte, part)
		default:
			p = w.buffer(j, int((part+block-1)/block*block))
		}
		if _, err := io.ReadFull(r, p[:part]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		clear(p[part:])
		work := func(j *job) error { w.packBlocks(j, off, p, sparse); return nil }
		switch {
		case part == 0 || inline && sparse && !slices.ContainsFunc(p, func(b byte) bool { return b != 0 }):
			work = nil
		case inline:
			j.spec.Inline, j.bytes, work = p, part, nil
		}
		if err := w.push(ctx, j, work); err != nil {
			return err
		}
	}
	return nil
}

// packBlocks packs whole blocks; of a sparse file those that are zero are holes,
// as the archive does not say where exactly they were.
func (im *importer) packBlocks(j *job, off int64, p []byte, sparse bool) {
	if !sparse {
		j.bytes += int64(len(p))
		im.pack(j, off, p)
		return
	}
	block := im.w.Bytes.Block()
	zero := make([]byte, block)
	for at := 0; at < len(p); {
		end := at
		for end < len(p) && !bytes.Equal(p[end:end+block], zero) {
			end += block
		}
		if end > at {
			j.bytes += int64(end - at)
			im.pack(j, off+int64(at), p[at:end])
			at = end
		} else {
			at += block
		}
	}
}
