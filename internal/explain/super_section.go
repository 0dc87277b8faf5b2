package explain

import (
	"slices"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// wanted: the options ask for sections of this type.
func (t *superText) wanted(f ondisk.SBFieldType) bool {
	switch {
	case t.opts.All:
		return true
	case t.opts.Fields != nil:
		return slices.Contains(t.opts.Fields, f)
	case f == ondisk.FieldExt || f == ondisk.FieldErrorsV2:
		return !t.old()
	case f == ondisk.FieldMembersV1:
		return t.sb.Field(ondisk.FieldMembersV2) == nil
	}
	return f == ondisk.FieldMembersV2 || f == ondisk.FieldErrors
}

// sections prints the sections in their order in the superblock. Style 1.39 has
// the members at the end and without a title.
func (t *superText) sections() {
	membersLast := false
	seen := map[ondisk.SBFieldType]bool{}
	for _, f := range t.sb.Fields {
		// Of several of a type all but the first mean nothing.
		if !t.wanted(f.Type) || seen[f.Type] {
			continue
		}
		seen[f.Type] = true
		if f.Type == ondisk.FieldMembersV2 && !t.old() {
			membersLast = true
			continue
		}
		if !t.opts.Only {
			name := f.Type.String()
			if f.Type >= t.known.field {
				name = "(unknown field " + itoa(uint64(f.Type)) + ")"
			}
			t.f("\n%s (size %d):\n", name, 8+len(f.Data))
		}
		if f.Type < t.known.field {
			t.section(f.Type)
		}
	}
	if membersLast {
		t.memberList(t.members)
	}
}

// broken says that a section does not decode.
func (t *superText) broken(err error) bool {
	if err != nil {
		t.f("(invalid: %v)\n", err)
	}
	return err != nil
}

func (t *superText) section(f ondisk.SBFieldType) {
	switch f {
	case ondisk.FieldJournal, ondisk.FieldJournalV2:
		t.journal(f)
	case ondisk.FieldMembersV1:
		v1 := *t.sb
		v1.Fields = []ondisk.SBField{{Type: f, Data: t.sb.Field(f)}}
		ms, err := v1.Members()
		if !t.broken(err) {
			t.memberList(ms)
		}
	case ondisk.FieldMembersV2:
		_, err := t.sb.Members()
		if !t.broken(err) {
			t.memberList(t.members)
		}
	case ondisk.FieldCrypt:
		c, err := t.sb.Crypt()
		if !t.broken(err) {
			n, r, p := c.ScryptParams()
			t.f("KFD:               %d\nscrypt n:          %d\nscrypt r:          %d\nscrypt p:          %d\n", c.KDF(), n, r, p)
		}
	case ondisk.FieldReplicasV0, ondisk.FieldReplicas:
		t.replicas(f)
	case ondisk.FieldQuota:
		q, err := t.sb.Quota()
		if t.broken(err) {
			return
		}
		for i, n := range []string{"user", "group", "project"} {
			l := q[i].Limits
			t.f("%s: flags %x space timelimit %d warnlimit %d inodes timelimit %d warnlimit %d\n",
				n, q[i].Flags, l[0].TimeLimit, l[0].WarnLimit, l[1].TimeLimit, l[1].WarnLimit)
		}
	case ondisk.FieldDiskGroups:
		t.diskGroups()
	case ondisk.FieldClean:
		c, err := t.sb.CleanSection()
		if t.broken(err) {
			return
		}
		t.f("flags:          %x\njournal_seq:    %d\n", c.Flags, c.JournalSeq)
		t.broken(ondisk.JsetEntries(c.Entries, func(e ondisk.JsetEntry) bool { t.jsetEntry(e); return true }))
	case ondisk.FieldJournalBlacklist:
		l, err := t.sb.Blacklist()
		if t.broken(err) {
			return
		}
		for i, r := range l {
			if i > 0 {
				t.s(" ")
			}
			t.f("%d-%d", r.Start, r.End)
		}
		t.s("\n")
	case ondisk.FieldCounters:
		t.counters()
	case ondisk.FieldErrors:
		l, err := t.sb.ErrorsV1()
		if !t.broken(err) {
			t.errorCounts(l)
		}
	case ondisk.FieldErrorsV2:
		l, err := t.sb.ErrorsV2()
		if !t.broken(err) {
			t.errorCounts(l)
		}
	case ondisk.FieldExt:
		t.ext()
	case ondisk.FieldDowngrade:
		t.downgrade()
	case ondisk.FieldRecoveryPasses:
		t.recoveryPasses()
	case ondisk.FieldExtentTypeU64s:
		for i, n := range t.sb.ExtentTypeU64s() {
			if i > 0 {
				t.s(" ")
			}
			t.f("%d", n)
		}
		t.s("\n")
	}
}

func (t *superText) journal(f ondisk.SBFieldType) {
	one := *t.sb // both forms may be there
	one.Fields = []ondisk.SBField{{Type: f, Data: t.sb.Field(f)}}
	l, err := one.JournalRanges()
	if t.broken(err) {
		return
	}
	t.s("Buckets: ")
	for _, r := range l {
		if f == ondisk.FieldJournal {
			t.f(" %d", r.Start)
		} else {
			t.f(" %d-%d", r.Start, r.Start+r.Nr) // the end is not in the range
		}
	}
	t.s("\n")
}

func (t *superText) replicas(f ondisk.SBFieldType) {
	one := *t.sb
	one.Fields = []ondisk.SBField{{Type: f, Data: t.sb.Field(f)}}
	l, err := one.Replicas()
	if t.broken(err) {
		return
	}
	for i, e := range l {
		if i > 0 {
			t.s(" ")
		}
		t.s(t.dataType(e.DataType) + ": ")
		if f == ondisk.FieldReplicas {
			t.f("%d/", e.Required)
		}
		t.f("%d %v", len(e.Devs), e.Devs)
	}
	t.s("\n")
}

func (t *superText) dataType(d ondisk.DataType) string {
	if d >= t.known.data {
		return "(unknown data_type " + itoa(uint64(d)) + ")"
	}
	return d.String()
}

func (t *superText) diskGroups() {
	l, err := t.sb.DiskGroups()
	if t.broken(err) {
		return
	}
	for i, g := range l {
		if i > 0 {
			t.s(" ")
		}
		if g.Deleted {
			t.s("[deleted]")
			continue
		}
		t.f("[parent %d name ", g.Parent+1)
		t.text([]byte(g.Label))
		t.s("]")
	}
	if !t.old() {
		t.s("\n")
	}
}

// errorName is the name that the release of the style has for an error.
func (t *superText) errorName(e ondisk.ErrorID) string {
	if e >= t.known.err {
		return "(unknown error " + itoa(uint64(e)) + ")"
	}
	return e.String()
}

func (t *superText) errorCounts(l []ondisk.ErrorCount) {
	for _, e := range l {
		start := len(t.b)
		t.s(t.errorName(e.ID))
		t.pad(start, t.column+1)
		t.f("%d", e.Count)
		t.pad(start, t.column+17)
		t.s(t.date(e.Last) + "\n")
	}
}

// passNames lists a set of passes in the order in which they run.
func (t *superText) passNames(l []ondisk.RecoveryPass) []string {
	slices.SortFunc(l, func(a, b ondisk.RecoveryPass) int { return a.RunOrder() - b.RunOrder() })
	var names []string
	for _, p := range l {
		if p < t.known.pass {
			names = append(names, t.passName(p))
		}
	}
	return names
}

func (t *superText) passName(p ondisk.RecoveryPass) string {
	if p == ondisk.PassSetFSNeedsReconcile && t.old() {
		return "set_fs_needs_rebalance"
	}
	return p.String()
}

// btreeName is the name that the release of the style has for a btree.
func (t *superText) btreeName(b ondisk.BtreeID) string {
	switch {
	case b >= t.known.btree:
		return "(unknown)"
	case b == ondisk.BtreeReconcileWork && t.old():
		return "rebalance_work"
	}
	return b.String()
}

func (t *superText) btreeSet(label string, set uint64) {
	var names []string
	for b := range t.known.btree {
		if set>>b&1 != 0 {
			names = append(names, t.btreeName(b))
		}
	}
	t.label(label)
	t.list(names)
	t.s("\n")
}

func (t *superText) ext() {
	e, err := t.sb.Ext()
	if t.broken(err) {
		return
	}
	t.label("Recovery passes required:")
	t.list(t.passNames(e.Passes()))
	t.s("\n")
	var names []string
	for _, id := range e.Silent() {
		if id < t.known.err {
			names = append(names, id.String())
		}
	}
	t.label("Errors to silently fix:")
	t.list(names)
	t.s("\n")
	t.btreeSet("Btrees with missing data:", e.BtreesLostData)
	if !t.old() {
		t.btreeSet("Btrees that have ever lost data:", e.BtreesLostDataEver)
		t.btreeSet("Btrees validated clean:", e.BtreesClean)
	}
}

func (t *superText) downgrade() {
	l, err := t.sb.Downgrade()
	if t.broken(err) {
		return
	}
	label := t.label
	if t.old() {
		label = func(s string) { t.s(s + "\t") }
	}
	for _, e := range l {
		label("version:")
		t.s(t.versionText(e.Version))
		t.s("\n")
		label("recovery passes:")
		t.list(t.passNames(e.PassList()))
		t.s("\n")
		var names []string
		for _, id := range e.Errors {
			names = append(names, t.errorName(id))
		}
		label("errors:")
		t.list(names)
		t.s("\n")
	}
}

// recoveryPasses prints when passes ran, those that never did left out.
func (t *superText) recoveryPasses() {
	for i, r := range t.sb.RecoveryPasses() {
		if r == (ondisk.PassRun{}) || i >= ondisk.MaxRecoveryPasses {
			continue
		}
		start := len(t.b)
		t.s(ondisk.RecoveryPass(i).String())
		t.pad(start, t.column)
		t.f("last run %s, %d seconds", t.date(r.LastRun), r.LastRuntime)
		if r.Flags&1 != 0 {
			t.s(", no ratelimit")
		}
		t.s("\n")
	}
}

func (t *superText) counters() {
	l := t.sb.Counters()
	for i := range t.known.counter {
		id, name := i, ""
		if t.old() {
			name = counterName1_13(i)
		} else {
			id = int(counterOrder[i])
			name = ondisk.Counter(id).String()
		}
		if id >= len(l) {
			continue
		}
		start := len(t.b)
		t.s(name + " ")
		t.pad(start, t.column)
		t.f("%d\n", l[id])
	}
}
