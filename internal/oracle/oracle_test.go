//go:build oracle

package oracle

import (
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

func TestToolsOracle(t *testing.T) {
	o := New(t)
	paths := testvol.Paths(t, "plain")
	r := o.Tools(t, "show-super", "-f", "ext,members_v2,crypt,clean,replicas_v0,journal_v2,downgrade,errors,counters", paths[0])
	want := string(testvol.Small(t).Text(t, "plain", "show-super"))
	if r.Code != 0 || r.Out != want {
		t.Errorf("show-super: exit code %d, %q\n got %s\nwant %s", r.Code, r.Err, r.Out, want)
	}
	if r := o.Tools(t, "show-super", "/nonexistent"); r.Code == 0 {
		t.Errorf("show-super of a file that is not there: exit code 0, want another\n%s", r.Out)
	}
	if r := o.Fsck(t, paths...); r.Code != 0 {
		t.Errorf("fsck -n: exit code %d, want 0\n%s%s", r.Code, r.Out, r.Err)
	}
}

func TestVMOracle(t *testing.T) {
	o := New(t)
	testvol.Check(t, testvol.Manifest(t, "plain"), o.Manifest(t, "", testvol.Paths(t, "plain")...), testvol.Quirks{})
	r := o.VM(t, "echo here; test -b /dev/vda || exit 3; exit 7\n", nil)
	if r.Code != 7 || strings.TrimSpace(r.Out) != "here" {
		t.Errorf("VM = code %d, %q, want 7, here", r.Code, r.Out)
	}
}
