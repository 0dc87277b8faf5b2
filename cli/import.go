package cli

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newImportCmd) }

// importFlags are what import was asked for.
type importFlags struct {
	force, noXattrs, progress bool
	strip                     int
	owner                     string
}

func newImportCmd(a *app) *cobra.Command {
	var wf writeFlags
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import VOLUME DIR [ARCHIVE]",
		Short: "Unpack a tar archive into a directory of a volume",
		Long: `Unpack a tar archive, a file or standard input, into a directory of a volume. The
archive may be compressed with gzip, zstd or bzip2; its form is found out.

Kept are contents and holes, mode, owner (by number), times, extended attributes and
ACLs, hard links, symlinks, devices and fifos. Members whose names would lead out of
DIR are refused, and none goes through a symlink. Directories that the archive does
not have but needs are made; those that exist get the attributes that it says.

A file appears when it is complete. Files that exist are not replaced without
--force. Ctrl-C leaves a clean volume with what is complete.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, rest, err := wf.split(args, 1, 2)
			if err != nil {
				return err
			}
			if f.strip < 0 {
				return usageErr("strip-components: must not be negative")
			}
			var r io.Reader = a.In
			if len(rest) == 2 && rest[1] != "-" {
				file, err := os.Open(rest[1])
				if err != nil {
					return err
				}
				defer file.Close()
				r = file
			} else if isTerminal(a.In) {
				return usageErr("not reading an archive from a terminal")
			}
			return a.withWrite(cmd, &wf, args, 1, 2, func(t *writeTree, paths []string) error {
				at, err := t.sub.Stat(t.ctx, paths[0])
				if err == nil && !at.IsDir() {
					err = errNotDir
				}
				if err != nil {
					return atPath(t, paths[0], err)
				}
				in, err := t.incoming(path.Clean("/"+paths[0]), at.ID, f.owner)
				if err != nil {
					return err
				}
				in.force, in.noXattrs = f.force, f.noXattrs
				in.p = t.startProgress("imported", f.progress)
				defer in.p.finish()
				return in.untar(r, f.strip)
			})
		},
	}
	wf.add(a, cmd)
	fl := cmd.Flags()
	fl.BoolVarP(&f.force, "force", "f", false, "replace files that exist")
	fl.IntVar(&f.strip, "strip-components", 0, "leave out the first `N` names of each path")
	fl.StringVar(&f.owner, "owner", "", "`UID[:GID]` for everything")
	fl.BoolVar(&f.noXattrs, "no-xattrs", false, "leave out extended attributes and ACLs")
	progressFlag(cmd, &f.progress)
	return cmd
}

// unpacked reads through the compression of a stream, if it has one.
func unpacked(r io.Reader) (io.Reader, func(), error) {
	b := bufio.NewReaderSize(r, 256<<10)
	head, err := b.Peek(6)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	none := func() {}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		return z, none, err
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxMemory(1<<30))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return bzip2.NewReader(b), none, nil
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return nil, nil, errors.New("an archive compressed with xz: unpack it first (xz -dc ARCHIVE | gobcachefs import VOLUME DIR)")
	case len(head) == 0:
		return nil, nil, errors.New("the archive is empty")
	}
	return b, none, nil
}

// stopReader ends a stream when a context ends.
type stopReader struct {
	ctx context.Context
	r   io.Reader
}

func (s stopReader) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// untar reads an archive. Members that cannot be put are reported and left out;
// an archive that cannot be read ends the run.
func (in *incoming) untar(r io.Reader, strip int) error {
	u, done, err := unpacked(r)
	if err != nil {
		return err
	}
	defer done()
	tr := tar.NewReader(stopReader{in.ctx, u})
	members := int64(0)
	for {
		if err := in.ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			if cerr := in.ctx.Err(); cerr != nil {
				return cerr
			}
			terr := in.times()
			return errors.Join(fmt.Errorf("the archive cannot be read on behind %d members: %w; what is complete stays", members, err), terr)
		}
		members++
		in.p.files.Add(1)
		p, skip, err := memberPath(h.Name, strip)
		if err == nil && !skip {
			err = in.member(tr, h, p, strip)
		}
		if err == nil {
			continue
		}
		var be *bodyError
		if errors.As(err, &be) {
			if cerr := in.ctx.Err(); cerr != nil {
				return cerr
			}
			in.fail(in.shown(p), fmt.Errorf("the archive ends in it, or cannot be read: %w", be.err))
			return in.times()
		}
		if p == "" {
			p = h.Name
		}
		if err := in.failed(p, err); err != nil {
			return err
		}
	}
	err = in.times()
	in.r.summary(members, "members")
	return err
}

// memberPath is where a member goes, below the directory; skip says that nothing
// is left of its name.
func memberPath(name string, strip int) (p string, skip bool, err error) {
	var names []string
	for _, n := range strings.Split(name, "/") {
		switch n {
		case "", ".":
			continue
		case "..":
			return "", false, errors.New("a name with \"..\" leads out of the directory")
		}
		names = append(names, n)
	}
	if len(names) < strip {
		return "", true, nil
	}
	return strings.Join(names[strip:], "/"), strip > 0 && len(names) == strip, nil
}

// bodyError is an error of the archive in the middle of a member.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return e.err.Error() }

// tarBody is the data of a member.
type tarBody struct {
	r    *tar.Reader
	at   int64
	size int64
	p    *progress
}

func (b *tarBody) Next(off int64) (from, to int64, ok bool, err error) {
	return off, b.size, off < b.size, nil
}

func (b *tarBody) ReadAt(p []byte, off int64) error {
	if skip := off - b.at; skip > 0 {
		n, err := io.CopyN(io.Discard, b.r, skip)
		if b.at += n; err != nil {
			return &bodyError{err}
		}
	}
	n, err := io.ReadFull(b.r, p)
	b.at += int64(n)
	b.p.bytes.Add(int64(n))
	if err != nil {
		return &bodyError{err}
	}
	return nil
}

// member puts one member. Errors are about it alone, but for bodyErrors.
func (in *incoming) member(tr *tar.Reader, h *tar.Header, p string, strip int) error {
	n := bcachefs.NewFile{Mode: uint32(h.Mode) & 0o7777, Mtime: h.ModTime, Atime: h.AccessTime}
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= 1<<32-1 || int64(h.Gid) >= 1<<32-1 {
		return fmt.Errorf("owner %d:%d is none of a volume", h.Uid, h.Gid)
	}
	n.UID, n.GID = uint32(h.Uid), uint32(h.Gid)
	if n.Atime.IsZero() {
		n.Atime = n.Mtime
	}
	n.Xattrs = in.tarXattrs(h, p)
	switch h.Typeflag {
	case tar.TypeDir:
		return in.putDir(p, n)
	case tar.TypeXGlobalHeader:
		return nil
	}
	if p == "" {
		return errors.New("a member that is not a directory has no name")
	}
	switch h.Typeflag {
	//lint:ignore SA1019 old archives have it
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse:
		n.Mode |= ondisk.ModeRegular
		var body bcachefs.Body = &tarBody{r: tr, size: h.Size, p: in.p}
		if isSparse(h) {
			body = bcachefs.ZeroHoles(body)
		}
		_, err := in.putFile(in.ctx, p, n, uint64(h.Size), body)
		return err
	case tar.TypeLink:
		target, skip, err := memberPath(h.Linkname, strip)
		if err != nil || skip || target == "" {
			return errors.Join(errors.New("a hard link to nothing in the archive"), err)
		}
		up, name := splitLast(target)
		d, err := in.dir(up)
		if err != nil {
			return fmt.Errorf("hard link to %s: %w", escapeName(target), err)
		}
		a, err := in.files.Lookup(in.ctx, d.id, name)
		if err != nil {
			return fmt.Errorf("hard link to %s: %w", escapeName(target), err)
		}
		return in.putLink(p, a.ID, in.shown(target))
	case tar.TypeSymlink:
		n.Mode |= ondisk.ModeSymlink
		n.Target = h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		n.Mode |= ondisk.ModeChar
		if h.Typeflag == tar.TypeBlock {
			n.Mode = n.Mode&0o7777 | ondisk.ModeBlock
		}
		if h.Devmajor < 0 || h.Devminor < 0 || h.Devmajor >= 1<<12 || h.Devminor >= 1<<20 {
			return fmt.Errorf("device number %d:%d is none of a volume", h.Devmajor, h.Devminor)
		}
		n.RdevMajor, n.RdevMinor = uint32(h.Devmajor), uint32(h.Devminor)
	case tar.TypeFifo:
		n.Mode |= ondisk.ModeFifo
	default:
		return fmt.Errorf("unknown type of member %q", h.Typeflag)
	}
	_, err := in.putFile(in.ctx, p, n, 0, nil)
	return err
}

// isSparse: the archive leaves out holes of the file, which then read as zeros.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// tarXattrs gives the extended attributes of a member. ACLs may be there as text
// only.
func (in *incoming) tarXattrs(h *tar.Header, p string) (xs []bcachefs.Xattr) {
	if in.noXattrs {
		return nil
	}
	have := map[string]bool{}
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, "SCHILY.xattr.")
		if !ok || name == "" {
			continue
		}
		name = strings.NewReplacer("%3D", "=", "%25", "%").Replace(name)
		xs = append(xs, bcachefs.Xattr{Name: name, Value: []byte(v)})
		have[name] = true
	}
	for name, k := range tarACLs {
		text, ok := h.PAXRecords[k]
		if !ok || have[name] {
			continue
		}
		v, err := aclFromText(text)
		if err != nil {
			in.r.note("%s: ACL left out: %v", escapeName(in.shown(p)), err)
			continue
		}
		xs = append(xs, bcachefs.Xattr{Name: name, Value: v})
	}
	return xs
}

// aclFromText reads an ACL as text, with numbers for users and groups (a number
// may also follow a name, behind a further colon), into the form of the system
// calls.
func aclFromText(s string) ([]byte, error) {
	type entry struct {
		tag, perm uint16
		id        uint32
	}
	var all []entry
	for _, e := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == '\n' }) {
		e, _, _ = strings.Cut(strings.TrimSpace(e), "#")
		if e = strings.TrimSpace(e); e == "" {
			continue
		}
		f := strings.Split(e, ":")
		if len(f) == 2 && (f[0] == "mask" || f[0] == "other" || f[0] == "m" || f[0] == "o") {
			f = []string{f[0], "", f[1]}
		}
		if len(f) < 3 || len(f) > 4 {
			return nil, fmt.Errorf("entry %q", e)
		}
		x := entry{id: ^uint32(0)}
		kinds := map[byte][2]uint16{'u': {1, 2}, 'g': {4, 8}, 'm': {0x10}, 'o': {0x20}}
		if f[0] == "" {
			return nil, fmt.Errorf("entry %q", e)
		}
		k, ok := kinds[f[0][0]]
		if !ok {
			return nil, fmt.Errorf("entry %q", e)
		}
		x.tag = k[0]
		if f[1] != "" {
			if x.tag = k[1]; x.tag == 0 {
				return nil, fmt.Errorf("entry %q", e)
			}
			id, err := strconv.ParseUint(f[1], 10, 32)
			if err != nil && len(f) == 4 {
				id, err = strconv.ParseUint(f[3], 10, 32)
			}
			if err != nil {
				return nil, fmt.Errorf("entry %q names somebody without a number", e)
			}
			x.id = uint32(id)
		}
		for _, c := range f[2] {
			switch c {
			case 'r':
				x.perm |= 4
			case 'w':
				x.perm |= 2
			case 'x':
				x.perm |= 1
			case '-':
			default:
				return nil, fmt.Errorf("entry %q", e)
			}
		}
		all = append(all, x)
	}
	out := binary.LittleEndian.AppendUint32(nil, 2)
	for _, tag := range []uint16{1, 2, 4, 8, 0x10, 0x20} {
		for _, x := range all {
			if x.tag == tag {
				out = binary.LittleEndian.AppendUint16(out, x.tag)
				out = binary.LittleEndian.AppendUint16(out, x.perm)
				out = binary.LittleEndian.AppendUint32(out, x.id)
			}
		}
	}
	return out, nil
}
