package explain

import (
	"fmt"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// memberList prints the members that exist.
func (t *superText) memberList(ms []ondisk.Member) {
	for i := range ms {
		if t.alive(&ms[i]) {
			t.member(i, &ms[i])
		}
	}
}

// dataTypes prints a set of data types that the release of the style knows.
func (t *superText) dataTypes(label string, set uint64) {
	var names []string
	for d := range t.known.data {
		if set>>d&1 != 0 {
			names = append(names, d.String())
		}
	}
	if names == nil {
		names = []string{"(none)"}
	}
	t.label(label)
	t.list(names)
	t.s("\n")
}

func (t *superText) member(i int, m *ondisk.Member) {
	if t.old() {
		t.line("Device:", "%d", i)
	} else {
		path := "(not found)     "
		if i < len(t.opts.MemberPaths) && t.opts.MemberPaths[i] != "" {
			path = t.opts.MemberPaths[i]
		}
		t.line(fmt.Sprintf("Device %d:", i), "%s", path)
	}
	switch g := m.Group(); {
	case g < 0:
		t.line("  Label:", "(none)")
	case t.groupPath(g) == "":
		t.line("  Label:", "(bad label %d)", g)
	case t.old():
		t.label("  Label:")
		t.text([]byte(t.groups[g].Label))
		t.f(" (%d)\n", g)
	default:
		t.escaped("  Label:", t.groupPath(g))
	}
	if m.FailureDomain != "" && !t.old() {
		t.escaped("  Failure domain:", m.FailureDomain)
	}
	t.line("  UUID:", "%v", m.UUID)
	t.line("  Size:", "%s", t.size(m.Sectors()<<9))
	for j, n := range []string{"read", "write", "checksum"} {
		t.line("  "+n+" errors:", "%d", m.Errors[j])
	}
	for j, n := range []string{"seqread", "seqwrite", "randread", "randwrite"} {
		t.line("  "+n+" iops:", "%d", m.Iops[j])
	}
	t.line("  Bucket size:", "%s", t.size(uint64(m.BucketSize)<<9))
	t.line("  First bucket:", "%d", m.FirstBucket)
	t.line("  Buckets:", "%d", m.NBuckets)
	if m.LastMount == 0 {
		t.line("  Last mount:", "(never)")
	} else {
		t.line("  Last mount:", "%s", t.date(m.LastMount))
	}
	t.line("  Last superblock write:", "%d", m.Seq)
	t.line("  State:", "%s", t.state(m.State()))
	t.dataTypes("  Data allowed:", uint64(m.DataAllowed()))
	t.dataTypes("  Has data:", t.held[uint8(i)])
	if !t.old() {
		t.line("  Rotational:", "%d", btoi(m.Rotational()))
	}
	// The shift is one of sectors, but the tools print it as one of bytes.
	t.line("  Btree allocated bitmap blocksize:", "%s", t.size(1<<min(m.BtreeBitmapShift, 63)))
	t.line("  Btree allocated bitmap:", "%064b", m.BtreeAllocatedBitmap)
	t.line("  Durability:", "%d", m.Durability())
	t.line("  Discard:", "%d", btoi(m.Discard()))
	t.line("  Freespace initialized:", "%d", btoi(m.FreespaceInitialized()))
	if t.old() {
		return
	}
	t.line("  Resize on mount:", "%d", btoi(m.ResizeOnMount()))
	t.escaped("  Last device name:", m.DeviceName)
	t.escaped("  Last device model:", m.DeviceModel)
	t.escaped("  Last device serial:", m.DeviceSerial)
	if m.FlushErrors != 0 {
		t.line("  Flush errors:", "%d", m.FlushErrors)
	}
}

func (t *superText) state(s ondisk.MemberState) string {
	switch {
	case s >= ondisk.NrMemberStates:
		return "unknown"
	case s == ondisk.MemberEvacuating && t.old():
		return "failed"
	}
	return s.String()
}
