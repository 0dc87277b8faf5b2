package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/human"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newFormatCmd) }

// formatFlags are the flags of the commands that make volumes.
type formatFlags struct {
	o       bcachefs.FormatOptions
	options map[string]string
	devices deviceOptions

	replicas       string
	label, uuid    string
	version        string
	superblock     string
	source         string
	encrypted      bool
	noPassphrase   bool
	passphraseFile string
	seed           string
	force, quiet   bool
	verbose        bool
	progress       bool
}

// deviceOption is an option of devices, given after a number of them.
type deviceOption struct {
	after       int
	name, value string
}

// deviceOptions collects them.
type deviceOptions struct {
	fl   *pflag.FlagSet
	list []deviceOption
}

// of are the options of device i: all that were given before it, the last of
// each name.
func (d *deviceOptions) of(i int) map[string]string {
	m := map[string]string{}
	for _, o := range d.list {
		if o.after <= i {
			m[o.name] = o.value
		}
	}
	return m
}

// optionValue is a flag for an option of format. set gets the name that is known
// to FormatOption.
type optionValue struct {
	opt   *ondisk.Option
	name  string
	no    bool // the flag means the opposite
	value string
	set   func(name, value string)
}

// String implements pflag.Value.
func (v *optionValue) String() string { return v.value }

// Type implements pflag.Value: what help shows for the value.
func (v *optionValue) Type() string {
	switch {
	case v.opt.Type == ondisk.OptBool:
		return ""
	case len(v.opt.Choices) > 0 && v.opt.Type == ondisk.OptEnum:
		return strings.Join(v.opt.Choices, "|")
	case v.opt.Flags&ondisk.OptSize != 0:
		return "size"
	case v.opt.Type == ondisk.OptTarget:
		return "target"
	case v.opt.Type == ondisk.OptCompression:
		return "type[:level]"
	case v.opt.Type == ondisk.OptUint:
		return "n"
	}
	return "text"
}

// Set implements pflag.Value. The value is checked at once, so that the error
// names the flag.
func (v *optionValue) Set(s string) error {
	if v.no {
		if s != "1" {
			return errors.New("takes no value")
		}
		s = "0"
	}
	if _, _, err := bcachefs.FormatOption(v.name, s); err != nil {
		return err
	}
	v.value = s
	v.set(v.name, s)
	return nil
}

// add puts the flags on a command.
func (f *formatFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "-", "_"))
	})
	f.options, f.devices.fl = map[string]string{}, fl
	for _, o := range bcachefs.FormatOptionList() {
		set := func(name, value string) { f.options[name] = value }
		if o.Scope&ondisk.OptDevice != 0 {
			set = func(name, value string) {
				f.devices.list = append(f.devices.list, deviceOption{fl.NArg(), name, value})
			}
		}
		add := func(flag, short, help string, v *optionValue) *pflag.Flag {
			g := fl.VarPF(v, flag, short, help)
			if o.Type == ondisk.OptBool {
				g.NoOptDefVal = "1"
			}
			return g
		}
		help, short := o.Help, ""
		if o.Scope&ondisk.OptDevice != 0 {
			help += " (of the devices that follow)"
		}
		if o.Name == "label" {
			short = "l"
		}
		add(o.Name, short, help, &optionValue{opt: o, name: o.Name, set: set}).Hidden = !o.InVersion(ondisk.Version1_13)
		if o.Type == ondisk.OptBool {
			add("no_"+o.Name, "", help, &optionValue{opt: o, name: o.Name, no: true, set: set}).Hidden = true
		}
		if o.Name == "bucket_size" {
			add("bucket", "", help, &optionValue{opt: o, name: o.Name, set: set}).Hidden = true
		}
	}
	fl.StringVar(&f.replicas, "replicas", "", "copies of data and of metadata")
	fl.BoolVar(&f.encrypted, "encrypted", false, "encrypt the volume; asks for a passphrase")
	fl.BoolVar(&f.encrypted, "encrypt", false, "")
	_ = fl.MarkHidden("encrypt")
	fl.BoolVar(&f.noPassphrase, "no_passphrase", false, "encrypt, and store the key in the clear")
	fl.StringVar(&f.passphraseFile, "passphrase_file", "", "read the passphrase from a `FILE` (first line); - for standard input")
	fl.StringVarP(&f.label, "fs_label", "L", "", "`LABEL` of the volume, at most 31 bytes")
	fl.StringVarP(&f.uuid, "uuid", "U", "", "external `UUID` of the volume; else a random one")
	fl.StringVar(&f.superblock, "superblock_size", "", "room for each copy of the superblock, `SIZE`")
	fl.StringVar(&f.version, "version", "", "format `VERSION` of the volume, 1.13 only for now")
	fl.StringVar(&f.source, "source", "", "fill the volume with a `DIR`, a tar FILE, or - for a tar stream on standard input")
	fl.StringVar(&f.seed, "seed", "", "make everything random from a `TEXT`, for reproducible volumes (with SOURCE_DATE_EPOCH)")
	fl.BoolVarP(&f.force, "force", "f", false, "overwrite what is there")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print errors only")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "say more")
	progressFlag(cmd, &f.progress)
}

// parse checks the flags and fills in the options of Format.
func (f *formatFlags) parse(a *app) error {
	o := &f.o
	o.Options, o.Label, o.Seed, o.Force = f.options, f.label, f.seed, f.force
	if f.replicas != "" {
		for _, name := range []string{"data_replicas", "metadata_replicas"} {
			if _, _, err := bcachefs.FormatOption(name, f.replicas); err != nil {
				return usageErr("%s", strings.Replace(errText(err), name, "replicas", 1))
			}
			if _, ok := f.options[name]; !ok {
				o.Options[name] = f.replicas
			}
		}
	}
	if len(f.label) >= ondisk.SBLabelSize {
		return usageErr("fs_label: too long (max %d bytes)", ondisk.SBLabelSize-1)
	}
	var err error
	if f.uuid != "" {
		if o.UUID, err = ondisk.ParseUUID(f.uuid); err != nil || o.UUID.IsZero() {
			return usageErr("uuid: bad uuid %q", f.uuid)
		}
	}
	if f.version != "" {
		if o.Version, err = ondisk.ParseVersion(f.version); err != nil {
			return usageErr("version: %v", err)
		}
		if err := bcachefs.CanFormat(o.Version); err != nil {
			if !errors.Is(err, errs.ErrUsage) {
				fmt.Fprintf(a.Err, "A volume of %v would exclude:\n%s", o.Version, excludesText(o.Version))
			}
			return err
		}
	}
	if f.superblock != "" {
		v, err := human.ParseSize(f.superblock)
		switch {
		case err != nil:
			return usageErr("superblock_size: %v", err)
		case v < 64<<10:
			return usageErr("superblock_size: too small (min %d)", 64<<10)
		case v > 32<<20:
			return usageErr("superblock_size: too big (max %d)", 32<<20)
		}
		o.SuperblockSize = int64(v)
	}
	if s := os.Getenv("SOURCE_DATE_EPOCH"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return usageErr("SOURCE_DATE_EPOCH: not a number of seconds: %q", s)
		}
		o.Time = time.Unix(n, 0)
	}
	o.Encrypt = f.encrypted || f.noPassphrase || f.passphraseFile != ""
	switch {
	case f.noPassphrase && f.passphraseFile != "":
		return usageErr("no_passphrase and passphrase_file exclude each other")
	case o.Encrypt && f.seed != "":
		return usageErr("seed: not with encryption, whose keys and nonces must not be foreseeable")
	case f.source == "-" && f.passphraseFile == "-":
		return usageErr("source and passphrase_file cannot both be standard input")
	}
	return nil
}

// newPassphrase gets the passphrase of a new volume, nil if it has none.
func (f *formatFlags) newPassphrase(a *app) error {
	if !f.o.Encrypt || f.noPassphrase {
		return nil
	}
	var p []byte
	var err error
	if f.passphraseFile != "" {
		vf := volumeFlags{passphraseFile: f.passphraseFile}
		p, err = vf.passphrase(a)(a.ctx, "")
	} else {
		p, err = askTwice(a)
	}
	if err == nil && len(p) == 0 {
		err = usageErr("the passphrase is empty")
	}
	f.o.Passphrase = p
	return err
}

// askTwice asks for a new passphrase at the terminal.
func askTwice(a *app) ([]byte, error) {
	in, ok := a.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrLocked, Reason: "no terminal to ask for a passphrase: give --passphrase_file or --no_passphrase"}
	}
	ask := func(what string) ([]byte, error) {
		fmt.Fprintf(a.Err, "%s: ", what)
		p, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(a.Err)
		return p, err
	}
	p, err := ask("Enter new passphrase")
	if err != nil {
		return nil, err
	}
	q, err := ask("Enter same passphrase again")
	if err == nil && string(p) != string(q) {
		err = errors.New("the passphrases are not the same")
	}
	return p, err
}

// openSource opens what --source names. The returned function closes it.
func (f *formatFlags) openSource(a *app) (func(), error) {
	done := func() {}
	switch f.source {
	case "":
		return done, nil
	case "-":
		f.o.Source = bcachefs.FormatFromTar(a.In)
		return done, nil
	}
	st, err := os.Stat(f.source)
	if err != nil {
		return done, err
	}
	if st.IsDir() {
		f.o.Source = bcachefs.FormatFromDir(f.source)
		return done, nil
	}
	t, err := os.Open(f.source)
	if err != nil {
		return done, err
	}
	f.o.Source = bcachefs.FormatFromTar(t)
	return func() { _ = t.Close() }, nil
}

func newFormatCmd(a *app) *cobra.Command {
	var f formatFlags
	cmd := &cobra.Command{
		Use:     "format [OPTION|DEVICE]...",
		Aliases: []string{"mkfs"},
		Short:   "Make a new volume on devices or image files",
		Long: `Make a new volume on one or more devices or image files.

Options of devices (--label, --durability, --discard, --data_allowed,
--bucket_size, --fs_size) go before the devices that they are for, and hold for
all that follow until changed:

    gobcachefs format --label=ssd.1 /dev/sda --label=hdd.1 /dev/sdb /dev/sdc

An image file that does not exist is made with --fs_size. What is on a device is
only overwritten with --force; devices in use never are.

With --source the volume is filled with a directory, or with a tar stream (plain
or compressed with gzip, bzip2 or zstd). With --seed, --uuid and SOURCE_DATE_EPOCH
the same source gives the same bytes.

Volumes are of format 1.13, which every kernel from 6.12 on mounts, and newer
ones upgrade.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(a, args)
		},
	}
	f.add(cmd)
	a.jsonFlag(cmd)
	return cmd
}

func (f *formatFlags) run(a *app, args []string) error {
	if err := f.parse(a); err != nil {
		return err
	}
	if len(args) == 0 {
		return usageErr("DEVICE is missing")
	}
	for _, d := range f.devices.list {
		if d.after >= len(args) {
			return usageErr("%s: given after the last device", d.name)
		}
	}
	closeSource, err := f.openSource(a)
	if err != nil {
		return err
	}
	defer closeSource()
	devs, done, err := f.open(a, args)
	if err != nil {
		return err
	}
	res, err := f.format(a, devs)
	if err = errors.Join(err, done(err == nil)); err != nil {
		return err
	}
	if err := f.print(a, args, res); err != nil {
		return err
	}
	return lostXattrs(res)
}

// lostXattrs is the end of a run that could not copy all.
func lostXattrs(res *bcachefs.Formatted) error {
	if res.LostXattrs == 0 {
		return nil
	}
	return &exitError{ExitFailed, fmt.Errorf("the volume is complete but for %d attributes that the format has no place for", res.LostXattrs)}
}

// format asks what is to be asked and does it.
func (f *formatFlags) format(a *app, devs []bcachefs.FormatDevice) (*bcachefs.Formatted, error) {
	if err := f.confirm(a, devs); err != nil {
		return nil, err
	}
	if err := f.newPassphrase(a); err != nil {
		return nil, err
	}
	p := a.startProgress("copied", f.progress)
	defer p.finish()
	f.o.Warn = a.warner()
	f.o.Progress = func(files, bytes int64) {
		p.files.Store(files)
		p.bytes.Store(bytes)
	}
	return bcachefs.Format(a.ctx, devs, f.o)
}

// open opens the devices, and makes image files that do not exist. done closes
// them all, and removes those again if the format failed.
func (f *formatFlags) open(a *app, args []string) (devs []bcachefs.FormatDevice, done func(ok bool) error, err error) {
	var made []string
	done = func(ok bool) error {
		var list []error
		for _, d := range devs {
			list = append(list, d.Device.Close())
		}
		if !ok {
			for _, name := range made {
				list = append(list, os.Remove(name))
			}
		}
		return errors.Join(list...)
	}
	for i, name := range args {
		o := f.devices.of(i)
		var size int64
		if s, ok := o["fs_size"]; ok {
			_, v, err := bcachefs.FormatOption("fs_size", s)
			if err != nil {
				return nil, nil, errors.Join(err, done(false))
			}
			size = int64(v)
		}
		w, fresh, err := openImage(a.ctx, name, size)
		if err != nil {
			return nil, nil, errors.Join(err, done(false))
		}
		if fresh {
			made = append(made, name)
		}
		devs = append(devs, bcachefs.FormatDevice{Device: w, Options: o})
	}
	return devs, done, nil
}

// openImage opens a device to format. A file that is too small for the size that
// was asked for grows; one that does not exist is made.
func openImage(ctx context.Context, name string, size int64) (w block.Writer, fresh bool, err error) {
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) && size > 0 {
		w, err := block.Create(ctx, name, size, block.Options{})
		return w, err == nil, err
	}
	if w, err = block.OpenWriter(ctx, name, block.Options{}); err != nil {
		return nil, false, err
	}
	if r, ok := w.(block.Resizer); ok && size > w.Size() {
		if err := r.Resize(ctx, size); err != nil {
			return nil, false, errors.Join(err, w.Close())
		}
	}
	return w, false, nil
}

// confirm asks before something known is overwritten.
func (f *formatFlags) confirm(a *app, devs []bcachefs.FormatDevice) error {
	if f.force {
		return nil
	}
	asked := false
	for _, d := range devs {
		what, ok := bcachefs.Holds(a.ctx, d.Device)
		if !ok {
			continue
		}
		name := escapeName(d.Device.Info().Name)
		if in, ok := a.In.(*os.File); !ok || !term.IsTerminal(int(in.Fd())) || f.source == "-" {
			return &exitError{ExitFailed, fmt.Errorf("%s: holds %s; overwrite it with --force", name, what)}
		}
		fmt.Fprintf(a.Err, "%s holds %s.\n", name, what)
		asked = true
	}
	if !asked {
		return nil
	}
	fmt.Fprint(a.Err, "Proceed anyway? (y/N) ")
	line, err := bufio.NewReader(io.LimitReader(a.In, 1024)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return &exitError{ExitFailed, errors.New("nothing was changed")}
	}
	f.o.Force = true
	return nil
}

// formatJSON is the document of format --json.
type formatJSON struct {
	Schema       int                `json:"schema"`
	UUID         string             `json:"uuid"`
	InternalUUID string             `json:"internal_uuid"`
	Label        *string            `json:"label"`
	Version      string             `json:"version"`
	Encrypted    bool               `json:"encrypted"`
	BlockSize    int                `json:"block_size"`
	NodeSize     int                `json:"btree_node_size"`
	Devices      []formatDeviceJSON `json:"devices"`
	Source       *formatSourceJSON  `json:"source,omitempty"`
	Excludes     []string           `json:"excludes"`
}

type formatDeviceJSON struct {
	Index      int    `json:"index"`
	Path       string `json:"path"`
	PathRaw    string `json:"path_base64,omitempty"`
	UUID       string `json:"uuid"`
	Size       uint64 `json:"size"`
	BucketSize uint64 `json:"bucket_size"`
	Buckets    uint64 `json:"buckets"`
}

type formatSourceJSON struct {
	Files      int64 `json:"files"`
	Dirs       int64 `json:"directories"`
	Links      int64 `json:"links"`
	Bytes      int64 `json:"bytes"`
	LostXattrs int64 `json:"lost_xattrs"`
}

func (f *formatFlags) doc(args []string, res *bcachefs.Formatted) (formatJSON, error) {
	sb := res.Members[0]
	d := formatJSON{Schema: 1, UUID: sb.UserUUID.String(), InternalUUID: sb.UUID.String(), Version: sb.Version.String(), Encrypted: sb.Encrypted(),
		BlockSize: int(sb.BlockSize) * 512, NodeSize: sb.NodeSectors() * 512, Excludes: bcachefs.FormatExcludes(sb.Version)}
	if sb.Label != "" {
		d.Label = &sb.Label
	}
	ms, err := sb.Members()
	if err != nil {
		return d, err
	}
	for i, m := range ms {
		b := uint64(m.BucketSize) * 512
		d.Devices = append(d.Devices, formatDeviceJSON{i, args[i], rawBytes(args[i]), m.UUID.String(), b * m.NBuckets, b, m.NBuckets})
	}
	if f.source != "" {
		d.Source = &formatSourceJSON{res.Files, res.Dirs, res.Links, res.Bytes, res.LostXattrs}
	}
	return d, nil
}

// print says what was made.
func (f *formatFlags) print(a *app, args []string, res *bcachefs.Formatted) error {
	if a.json {
		d, err := f.doc(args, res)
		if err != nil {
			return err
		}
		return a.writeJSON(d)
	}
	if f.quiet {
		return nil
	}
	o := bcachefs.SuperOptions{Fields: []ondisk.SBFieldType{ondisk.FieldMembersV2}, Escape: isTerminal(a.Out)}
	if len(args) == 1 {
		o.DevName = shortName(args[0])
		if st, err := os.Stat(args[0]); err == nil && st.Mode().IsRegular() {
			o.DevKind = "(reg file)"
		}
	}
	if err := bcachefs.ShowSuper(a.Out, res.Members[0], o); err != nil {
		return err
	}
	if f.source != "" {
		fmt.Fprintf(a.Out, "\nCopied: %d files (%d directories, %d further links), %s of data\n", res.Files, res.Dirs, res.Links, humanSize(uint64(res.Bytes)))
	}
	_, err := fmt.Fprintf(a.Out, "\nVersion %v excludes:\n%s", res.Members[0].Version, excludesText(res.Members[0].Version))
	return err
}

// excludesText is FormatExcludes, a line each.
func excludesText(v ondisk.Version) string {
	var b strings.Builder
	for _, s := range slices.Sorted(slices.Values(bcachefs.FormatExcludes(v))) {
		fmt.Fprintf(&b, "  %s\n", s)
	}
	return b.String()
}
