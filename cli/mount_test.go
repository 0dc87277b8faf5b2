package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/errs"
)

func TestParseMount(t *testing.T) {
	for _, c := range []struct {
		opts string
		want mountOptions
		f    volumeFlags
	}{
		{opts: "defaults,ro,nofail,noauto,_netdev,x-systemd.automount,comment=hello,X-mount.mkdir"},
		{opts: "rw,relatime", want: mountOptions{rw: true, words: []string{"relatime"}}},
		{opts: "noexec,suid", want: mountOptions{words: []string{"noexec", "suid"}}},
		{opts: "exec,user", want: mountOptions{words: []string{"noexec", "nosuid", "nodev", "exec"}}},
		{opts: "allow_other", want: mountOptions{allowOther: true}},
		{opts: "allow_other,noallow_other", want: mountOptions{ownerOnly: true}},
		{opts: "degraded", want: mountOptions{o: bcachefs.Options{Degraded: bcachefs.DegradedYes}}},
		{opts: "very_degraded", want: mountOptions{o: bcachefs.Options{Degraded: bcachefs.DegradedVery}}},
		{opts: "sb=2048,salvage,no_splitbrain_check", want: mountOptions{o: bcachefs.Options{SuperblockSector: 2048, Salvage: true, NoSplitBrainCheck: true}}},
		{opts: "cache=64M", want: mountOptions{o: bcachefs.Options{CacheBytes: 64 << 20}}},
		{opts: "subvol=/a/b", f: volumeFlags{subvol: "/a/b"}},
		{opts: "subvolid=7", f: volumeFlags{subvolid: 7}},
		{opts: "remount,ro", want: mountOptions{remount: true}},
		{opts: "compression=zstd:3,fsck", want: mountOptions{notes: []string{"compression: no effect on a read-only mount", "fsck: no effect on a read-only mount"}}},
		{opts: "foreground_target=ssd", want: mountOptions{notes: []string{"foreground_target: no effect on a read-only mount"}}},
		{opts: "bogusopt=1", want: mountOptions{warnings: []string{"unknown option bogusopt ignored"}}},
		{opts: "degradd", want: mountOptions{warnings: []string{"unknown option degradd ignored; did you mean degraded"}}},
		{opts: ",,"},
	} {
		f := volumeFlags{options: []string{c.opts}}
		got, err := f.parseMount()
		if err != nil {
			t.Errorf("parseMount(%q): %v", c.opts, err)
			continue
		}
		if d := cmp.Diff(fmt.Sprintf("%+v", c.want), fmt.Sprintf("%+v", *got)); d != "" {
			t.Errorf("parseMount(%q): -want +got\n%s", c.opts, d)
		}
		if f.subvol != c.f.subvol || f.subvolid != c.f.subvolid {
			t.Errorf("parseMount(%q) = subvol %q, subvolid %d, want %q, %d", c.opts, f.subvol, f.subvolid, c.f.subvol, c.f.subvolid)
		}
	}
}

func TestParseMountRefuses(t *testing.T) {
	for _, c := range []struct {
		opts string
		code int
		text string
	}{
		{"degraded=maybe", ExitUsage, "choose ask, yes, very, no"},
		{"sb=x", ExitUsage, "sb"},
		{"cache=0", ExitUsage, "cache"},
		{"cache=1E", ExitUsage, "cache"},
		{"cache=much", ExitUsage, "cache"},
		{"subvolid=0", ExitUsage, "subvolid"},
		{"subvol", ExitUsage, "subvol"},
		{"block_size=512", ExitFailed, "block_size can only be set at format time"},
		{"compression=zip", ExitUsage, "compression"},
	} {
		f := volumeFlags{options: []string{c.opts}}
		_, err := f.parseMount()
		var ee *exitError
		if !errors.As(err, &ee) || ee.code != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("parseMount(%q) = %v, want exit code %d and %q", c.opts, err, c.code, c.text)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"degraded", "salvage", "rw", "compression"}
	for in, want := range map[string]string{
		"degradd": "degraded", "degradedd": "degraded", "salvge": "salvage", "comperssion": "compression", "xw": "", "bogus": "", "": "", "ww": "", "salv": "",
	} {
		if got := nearest(in, words); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"kitten", "sitting", 3}, {"abc", "abc", 0}, {"a", "abcdef", 5}} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// TestMountCode: what mount(8) is told.
func TestMountCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{usageErr("no"), 1},
		{&errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage}, 1},
		{&exitError{ExitFailed, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage}}, 32},
		{fmt.Errorf("%w: %w", errNoProcess, syscall.EMFILE), 2},
		{syscall.ENOMEM, 2},
		{errDaemonDied, 4},
		{context.Canceled, 8},
		{&exitError{ExitInterrupted, errors.New("interrupted")}, 8},
		{&exitError{ExitFailed, errors.New("broken")}, 32},
		{errs.ErrChecksum, 32},
	} {
		var ee *exitError
		if err := mountCode(c.err); !errors.As(err, &ee) || ee.code != c.want {
			t.Errorf("mountCode(%v) = %v, want code %d", c.err, err, c.want)
		} else if errors.Is(err, context.Canceled) {
			t.Errorf("mountCode(%v) is still a canceled context, which would exit %d", c.err, ExitInterrupted)
		}
	}
	if err := mountCode(nil); err != nil {
		t.Errorf("mountCode(nil) = %v, want nil", err)
	}
}

func TestProgramNames(t *testing.T) {
	for in, want := range map[string]string{
		"/sbin/mount.bcachefs": "mount.bcachefs", "mount.fuse.bcachefs": "mount.bcachefs", "gobcachefs": "", "/usr/bin/gobcachefs": "", "mount": "",
	} {
		if got := byProgramName(in); got != want {
			t.Errorf("byProgramName(%q) = %q, want %q", in, got, want)
		}
	}
}
