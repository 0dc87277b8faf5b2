package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/serve/fuse"
)

func init() { commands = append(commands, newMountCmd, newFusemountCmd) }

// mountCmd is one run of mount, in any of its spellings.
type mountCmd struct {
	a *app
	f volumeFlags
	m *mountOptions

	spec       []string
	dir        string // absolute; "" only opens and unlocks
	foreground bool
	child      bool // the daemon, started by a first process that waits for it
	fake       bool
	verbose    bool
	keyMode    string
}

func newMountCmd(a *app) *cobra.Command {
	m := &mountCmd{a: a}
	cmd := &cobra.Command{
		Use:   "mount [-o OPTIONS] VOLUME [MOUNTPOINT]",
		Short: "Mount a volume, read-only, through FUSE",
		Long: `Mount a volume, read-only, through FUSE. A process in the background serves the
mount until it is unmounted with umount or fusermount3 -u, or until it gets
SIGTERM. Root lets all users in, as far as permissions go; others need
-o allow_other for that, and user_allow_other in /etc/fuse.conf.

VOLUME is a device, an image file, members with ':' between, UUID=… or LABEL=….
A member that is missing is refused unless -o degraded or degraded=very says
otherwise. Without MOUNTPOINT the volume is opened, and unlocked, and that is all.

Options (-o), beside the generic ones of mount(8) and those of bcachefs (which
have no effect when nothing is written):
  subvol=PATH, subvolid=N  the subvolume to show
  degraded, degraded=very  open with members missing
  sb=SECTOR                the superblock copy to use
  no_splitbrain_check      accept members that were changed without each other
  salvage                  read on through metadata with a bad checksum
  cache=SIZE               memory for metadata (default 256M); the process stays
                           within that and about 50M
  allow_other              let other users in (noallow_other: not)

In /etc/fstab, with links /sbin/mount.bcachefs and /sbin/mount.fuse.bcachefs to
this program:
  UUID=6e0c…  /mnt  bcachefs  ro,nofail  0  0`,
		RunE: func(cmd *cobra.Command, args []string) error { return m.run(args, 0) },
	}
	m.f.add(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&m.foreground, "foreground", false, "serve in this process, and log to standard error")
	fl.BoolVarP(&m.fake, "fake", "f", false, "check everything, but do not mount")
	fl.BoolVarP(&m.verbose, "verbose", "v", false, "say what is done")
	fl.StringVarP(&m.keyMode, "key_location", "k", "ask", "where the key comes from, if the keyring has none: fail, wait, ask, stdin")
	m.ignored(cmd)
	fl.BoolVar(&m.child, "daemon-child", false, "")
	_ = fl.MarkHidden("daemon-child")
	return cmd
}

// ignored adds flags that mount(8) and the real program have and that mean
// nothing here.
func (m *mountCmd) ignored(cmd *cobra.Command) {
	fl := cmd.Flags()
	for _, x := range []struct{ long, short string }{{"no-mtab", "n"}, {"sloppy", "s"}, {"read-only", "r"}, {"colorize", "c"}} {
		fl.BoolP(x.long, x.short, false, "")
		_ = fl.MarkHidden(x.long)
	}
	fl.StringP("types", "t", "", "")
	_ = fl.MarkHidden("types")
}

func newFusemountCmd(a *app) *cobra.Command {
	m := &mountCmd{a: a, keyMode: "ask"}
	cmd := &cobra.Command{
		Use:    "fusemount [-o OPTIONS] [-f] VOLUME MOUNTPOINT",
		Short:  "Mount a volume, as the command of that name in the real tools does",
		Hidden: true,
		RunE:   func(cmd *cobra.Command, args []string) error { return m.run(args, 1) },
	}
	m.f.add(cmd)
	cmd.Flags().BoolVarP(&m.foreground, "foreground", "f", false, "serve in this process")
	return cmd
}

// run checks everything that can be before the volume is opened.
func (m *mountCmd) run(args []string, min int) (err error) {
	var rest []string
	if m.spec, rest, err = m.f.split(args, min, 1); err != nil {
		return err
	}
	switch m.keyMode {
	case "fail", "wait", "ask":
	case "stdin":
		m.f.passphraseFile = "-"
	default:
		return usageErr("-k: invalid selection: choose fail, wait, ask, stdin")
	}
	if m.m, err = m.f.parseMount(); err != nil {
		return err
	}
	if m.f.subvol != "" && m.f.subvolid != 0 {
		return usageErr("subvol and subvolid exclude each other")
	}
	if len(rest) == 1 {
		if m.dir, err = filepath.Abs(rest[0]); err != nil {
			return err
		}
	}
	if m.m.remount {
		return m.remount()
	}
	if m.dir != "" && !fuse.Supported {
		return fmt.Errorf("no mounts on %s/%s: use ls, cat, cp or tar", runtime.GOOS, runtime.GOARCH)
	}
	if !m.child {
		m.say()
		if err := m.checkDir(); err != nil {
			return err
		}
	}
	if m.dir == "" || m.fake || m.foreground {
		return m.serve(nil)
	}
	if m.child {
		return m.daemon()
	}
	return m.start()
}

// say prints warnings of the options, and with -v the rest.
func (m *mountCmd) say() {
	for _, w := range m.m.warnings {
		fmt.Fprintf(m.a.Err, "gobcachefs: warning: %s\n", w)
	}
	if !m.verbose {
		return
	}
	if m.m.rw {
		m.m.notes = append(m.m.notes, "rw: mounted read-only all the same")
	}
	for _, n := range m.m.notes {
		fmt.Fprintf(m.a.Err, "gobcachefs: %s\n", n)
	}
}

// checkDir says what is wrong with the mount point before a process is started
// for it.
func (m *mountCmd) checkDir() error {
	if m.dir == "" {
		return nil
	}
	if st, err := os.Stat(m.dir); err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return fmt.Errorf("mount point %s: %w", m.dir, err)
	} else if !st.IsDir() {
		return fmt.Errorf("mount point %s: not a directory", m.dir)
	}
	if src, typ := mountedOn(m.dir); typ == "fuse.bcachefs" {
		if !answers(m.dir) {
			return fmt.Errorf("%s: a mount of %s whose process is gone; unmount it first", m.dir, src)
		}
		return fmt.Errorf("%s is mounted on %s already", src, m.dir)
	}
	return nil
}

// remount: what is read-only stays it.
func (m *mountCmd) remount() error {
	switch src, typ := mountedOn(m.dir); {
	case typ != "fuse.bcachefs":
		return fmt.Errorf("%s: nothing of ours is mounted there", m.dir)
	case m.m.rw:
		return fmt.Errorf("%s: %s cannot be written to", m.dir, src)
	}
	return nil
}

// link is a daemon's connection to the process that started it.
type link interface {
	// passphrase asks for one. again is false when there is no use in asking
	// another time.
	passphrase(uuid string) (p []byte, again bool, err error)
	// ready: the mount answers. From now on nobody listens.
	ready() error
}

// headroom is the memory that a mount may use beside its cache. Collecting
// garbage more often than it takes by itself costs little: what fills the memory,
// nodes and buffers, holds no pointers.
const headroom = 32 << 20

// serve opens the volume, mounts it, and serves until it is unmounted. up is nil
// in the foreground.
func (m *mountCmd) serve(up link) error {
	cache := m.m.o.CacheBytes
	if cache == 0 {
		cache = bcachefs.DefaultCacheBytes
	}
	if m.dir != "" && !m.fake {
		debug.SetMemoryLimit(cache + headroom)
	}
	warn := m.a.warner()
	vol, done, err := m.open(up, warn)
	if err != nil {
		return err
	}
	defer done()
	sub, err := m.subvolume(vol)
	if err != nil {
		return err
	}
	if m.dir == "" || m.fake {
		return nil
	}
	srv, err := fuse.New(vol, fuse.Options{
		Subvolume: sub, Source: strings.Join(m.spec, ":"), Words: m.m.words, Warn: warn,
		AllowOther: m.m.allowOther || os.Geteuid() == 0 && !m.m.ownerOnly,
	})
	if err != nil {
		return err
	}
	if err := srv.Mount(m.dir); err != nil {
		return err
	}
	if m.verbose {
		fmt.Fprintf(m.a.Err, "gobcachefs: subvolume %d of %s mounted on %s, read-only, through FUSE\n", sub.ID(), strings.Join(m.spec, ":"), srv.Mountpoint())
	}
	ctx := m.a.ctx
	if up != nil {
		if err := up.ready(); err != nil {
			// Nobody waits for this mount any more.
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(ctx)
			cancel()
		}
	}
	return srv.Serve(ctx)
}

// subvolume is what -o subvol or subvolid name.
func (m *mountCmd) subvolume(v *bcachefs.Volume) (*bcachefs.Subvolume, error) {
	switch {
	case m.f.subvol != "":
		return v.SubvolumeAt(m.a.ctx, m.f.subvol)
	case m.f.subvolid != 0:
		return v.Subvolume(m.f.subvolid)
	}
	return v.Root(), nil
}

// tries is how often a terminal is asked for the passphrase.
const tries = 3

// open opens the volume. The passphrase comes through up, if there is one.
func (m *mountCmd) open(up link, warn func(error)) (*bcachefs.Volume, func(), error) {
	rs, err := devicesOf(m.a.ctx, m.spec, block.Options{})
	if err != nil {
		return nil, nil, err
	}
	done := func() { closeReaders(rs) }
	layers, err := m.f.layered(rs)
	if err != nil {
		done()
		return nil, nil, err
	}
	rs = layers
	if up == nil {
		up = noLink{m}
	}
	o := m.m.o
	o.Warn = warn
	keyring, again := true, false
	o.Key = func(ctx context.Context, uuid string) ([]byte, error) {
		if !keyring {
			return nil, nil
		}
		return m.key(ctx, uuid)
	}
	o.Passphrase = func(_ context.Context, uuid string) (p []byte, err error) {
		keyring = false
		p, again, err = up.passphrase(uuid)
		return p, err
	}
	for try := 1; ; try++ {
		v, err := bcachefs.Open(m.a.ctx, rs, o)
		if err == nil {
			if err = inKernel(v.Superblock().UserUUID.String()); err == nil {
				return v, done, nil
			}
		} else if errors.Is(err, errs.ErrPassphrase) {
			switch {
			case keyring:
				// The keyring has a key that does not fit: ask.
				warn(fmt.Errorf("the key in the keyring: %w", err))
				keyring, try = false, 0
				continue
			case again && try < tries:
				warn(err)
				continue
			}
		} else if errors.Is(err, errs.ErrUsage) {
			err = &exitError{ExitFailed, err} // devices that do not belong together
		}
		done()
		return nil, nil, err
	}
}

// keyPoll is how often -k wait looks into the keyring.
const keyPoll = time.Second

// key looks into the keyring, with -k wait until there is something.
func (m *mountCmd) key(ctx context.Context, uuid string) ([]byte, error) {
	k, err := keyringKey(ctx, uuid)
	if m.keyMode != "wait" {
		return k, err
	}
	tick := time.NewTicker(keyPoll)
	defer tick.Stop()
	for k == nil && err == nil {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
			k, err = keyringKey(ctx, uuid)
		}
	}
	return k, err
}

// noLink asks in this process.
type noLink struct{ m *mountCmd }

func (l noLink) passphrase(uuid string) ([]byte, bool, error) {
	if l.m.keyMode == "fail" {
		return nil, false, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrLocked, Reason: "encrypted, and the keyring has no key: run unlock"}
	}
	p, err := l.m.f.ask(l.m.a)(l.m.a.ctx, uuid)
	return p, l.m.f.passphraseFile == "", err
}

func (noLink) ready() error { return nil }

// inKernel refuses a volume that the kernel module has mounted: it changes.
func inKernel(uuid string) error {
	if _, err := os.Stat("/sys/fs/bcachefs/" + uuid); err == nil {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrBusy, Reason: "mounted by the kernel module; unmount it first"}
	}
	return nil
}
