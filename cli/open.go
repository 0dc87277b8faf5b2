package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
)

// volumeFlags are the flags of every command that opens a volume. With
// --device the VOLUME argument is left out.
type volumeFlags struct {
	devices        []string
	passphraseFile string
	options        []string // -o, comma separated
	overlay        string   // file that has, or takes, what is changed
	// What -o said of the subvolume to show; the zero values mean the one that
	// a plain mount shows.
	subvol   string
	subvolid uint32
}

// add puts the flags on a command. strict commands (mount) refuse missing
// members unless told otherwise; offline readers warn and go on.
func (f *volumeFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.devices, "device", nil, "a member `DEVICE` of the volume, in place of VOLUME; repeat for each")
	fl.StringVar(&f.passphraseFile, "passphrase-file", "", "read the passphrase from a `FILE` (first line); - for standard input")
	fl.StringVar(&f.overlay, "overlay", "", "leave the volume as it is: changes are in this `FILE`, which belongs to it")
	fl.StringArrayVarP(&f.options, "option", "o", nil, "`OPTIONS` with commas between: degraded, degraded=very, sb=SECTOR, no_splitbrain_check, subvol=PATH, subvolid=N, …")
}

// split takes the volume argument off the arguments of a command: the first one,
// unless --device names the members. rest are the others.
func (f *volumeFlags) split(args []string, min, max int) (spec []string, rest []string, err error) {
	if len(f.devices) > 0 {
		spec = f.devices
		rest = args
	} else {
		if len(args) == 0 {
			return nil, nil, usageErr("VOLUME is missing")
		}
		spec, rest = args[:1], args[1:]
	}
	if len(rest) < min {
		return nil, nil, usageErr("an argument is missing")
	}
	if max >= 0 && len(rest) > max {
		return nil, nil, usageErr("too many arguments: %s", strings.Join(rest[max:], " "))
	}
	return spec, rest, nil
}

// parse reads the -o options into o. What it does not know is given to extra
// (which reports whether it was known) and else refused.
func (f *volumeFlags) parse(o *bcachefs.Options, extra func(key, val string, has bool) (bool, error)) error {
	for _, list := range f.options {
		for _, opt := range strings.Split(list, ",") {
			if opt == "" {
				continue
			}
			key, val, has := strings.Cut(opt, "=")
			switch key {
			case "degraded":
				switch val {
				case "", "1", "true", "yes":
					o.Degraded = bcachefs.DegradedYes
				case "very":
					o.Degraded = bcachefs.DegradedVery
				case "0", "false", "no", "ask":
					o.Degraded = bcachefs.DegradedNo
				default:
					return usageErr("degraded: invalid selection: choose ask, yes, very, no")
				}
			case "very_degraded":
				o.Degraded = bcachefs.DegradedVery
			case "sb":
				n, err := strconv.ParseUint(val, 10, 54)
				if err != nil || n == 0 {
					return usageErr("sb: must be a sector number")
				}
				o.SuperblockSector = n
			case "no_splitbrain_check":
				o.NoSplitBrainCheck = true
			case "salvage":
				o.Salvage = true
			default:
				known := false
				if extra != nil {
					var err error
					if known, err = extra(key, val, has); err != nil {
						return err
					}
				}
				switch {
				case known:
				case key == "subvol" && has:
					f.subvol = val
				case key == "subvolid":
					id, err := strconv.ParseUint(val, 10, 32)
					if err != nil || id == 0 {
						return usageErr("subvolid: must be a subvolume number")
					}
					f.subvolid = uint32(id)
				default:
					return usageErr("unknown option %s%s", key, didYouMean(key))
				}
			}
		}
	}
	return nil
}

// volumeOptions are the options that parse knows.
var volumeOptions = []string{"degraded", "very_degraded", "sb", "no_splitbrain_check", "salvage", "subvol", "subvolid"}

// didYouMean suggests the option that a wrong one is close to.
func didYouMean(key string) string {
	best, at := 3, ""
	for _, o := range volumeOptions {
		if d := editDistance(key, o); d < best && d < len(o) {
			best, at = d, "; did you mean "+o
		}
	}
	return at
}

// editDistance is the number of letters to change, add or take away.
func editDistance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, diag+1, row[j]+1)
		}
	}
	return row[len(b)]
}

var errNoDevice = errors.New("no such file or device")

// devicesOf opens the devices that arguments name.
func devicesOf(ctx context.Context, spec []string, o block.Options) ([]block.Reader, error) {
	var rs []block.Reader
	for _, s := range spec {
		r, err := bcachefs.OpenDevices(ctx, s, o)
		if err != nil {
			for _, r := range rs {
				_ = r.Close()
			}
			var pe *fs.PathError
			if errors.As(err, &pe) && errors.Is(err, fs.ErrNotExist) {
				err = &fs.PathError{Op: pe.Op, Path: pe.Path, Err: errNoDevice}
			}
			return nil, err
		}
		rs = append(rs, r...)
	}
	return rs, nil
}

// open opens a volume for a reading command: missing members are warned of, and
// damaged metadata is used with a warning when there is nothing better. The
// returned function closes it.
func (a *app) open(f *volumeFlags, spec []string) (*bcachefs.Volume, func(), error) {
	o := bcachefs.Options{Degraded: bcachefs.DegradedVery, Salvage: true, Warn: a.warner()}
	if err := f.parse(&o, nil); err != nil {
		return nil, nil, err
	}
	return a.openWith(f, spec, o)
}

// openTree is open for a command that works on files: it gives the subvolume
// whose root is "/", as -o subvol or subvolid say.
func (a *app) openTree(f *volumeFlags, spec []string) (*bcachefs.Subvolume, func(), error) {
	v, done, err := a.open(f, spec)
	if err != nil {
		return nil, nil, err
	}
	s := v.Root()
	switch {
	case f.subvol != "" && f.subvolid != 0:
		err = usageErr("subvol and subvolid exclude each other")
	case f.subvol != "":
		s, err = v.SubvolumeAt(a.ctx, f.subvol)
	case f.subvolid != 0:
		s, err = v.Subvolume(f.subvolid)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return s, done, nil
}

func (a *app) openWith(f *volumeFlags, spec []string, o bcachefs.Options) (*bcachefs.Volume, func(), error) {
	rs, err := devicesOf(a.ctx, spec, block.Options{})
	if err != nil {
		return nil, nil, err
	}
	closeAll := func() { closeReaders(rs) }
	layers, err := f.layered(rs)
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	rs = layers
	o.Passphrase = f.passphrase(a)
	o.Key = keyringKey
	v, err := bcachefs.Open(a.ctx, rs, o)
	if err != nil {
		closeAll()
		if errors.Is(err, errs.ErrUsage) {
			// Devices that do not belong together: they had to be opened to know that.
			err = &exitError{ExitFailed, err}
		}
		return nil, nil, err
	}
	return v, closeAll, nil
}

// maxWarnings bounds how many warnings one run prints.
const maxWarnings = 1000

// warner prints warnings, each once, up to a bound.
func (a *app) warner() func(error) {
	var mu sync.Mutex
	seen := map[string]bool{}
	return func(err error) {
		msg := oneLine(err.Error())
		mu.Lock()
		defer mu.Unlock()
		if seen[msg] || len(seen) > maxWarnings {
			return
		}
		seen[msg] = true
		if len(seen) > maxWarnings {
			msg = fmt.Sprintf("more than %d warnings; the rest is not shown", maxWarnings)
		}
		fmt.Fprintf(a.Err, "gobcachefs: warning: %s\n", msg)
	}
}

// passphrase asks for the passphrase: from the file of --passphrase-file, else
// at the terminal.
func (f *volumeFlags) passphrase(a *app) func(context.Context, string) ([]byte, error) {
	return func(_ context.Context, uuid string) ([]byte, error) {
		switch f.passphraseFile {
		case "":
		case "-":
			return firstLine(a.In)
		default:
			file, err := os.Open(f.passphraseFile)
			if err != nil {
				return nil, err
			}
			defer file.Close()
			return firstLine(file)
		}
		in, ok := a.In.(*os.File)
		if !ok || !term.IsTerminal(int(in.Fd())) {
			return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrLocked, Reason: "encrypted: run unlock, or give --passphrase-file"}
		}
		fmt.Fprintf(a.Err, "Enter passphrase for volume %s: ", uuid)
		p, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(a.Err)
		return p, err
	}
}

func firstLine(r io.Reader) ([]byte, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 64<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return []byte(strings.TrimRight(line, "\r\n")), nil
}
