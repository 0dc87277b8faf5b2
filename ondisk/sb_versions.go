package ondisk

// versionRow says what a change of version asks for (chapter 09).
type versionRow struct {
	minor  int // of major 1
	passes []RecoveryPass
	errors []ErrorID
}

// WorkSet is what recovery must do: passes to run, and errors that these repair
// without reporting, because they are expected. It has the form of the two
// bitmaps in the field ext.
type WorkSet struct {
	Passes [2]uint64 // by stable id
	Silent [8]uint64 // by error id
}

// Empty: there is nothing to do.
func (s WorkSet) Empty() bool { return s == WorkSet{} }

// AddPass adds a pass.
func (s *WorkSet) AddPass(p RecoveryPass) {
	if p < MaxRecoveryPasses {
		s.Passes[p/64] |= 1 << (p % 64)
	}
}

// AddError adds an error. Ids that the bitmap has no room for are dropped.
func (s *WorkSet) AddError(e ErrorID) {
	if e < MaxErrorIDs {
		s.Silent[e/64] |= 1 << (e % 64)
	}
}

// Add adds all of another set.
func (s *WorkSet) Add(o WorkSet) {
	for i := range s.Passes {
		s.Passes[i] |= o.Passes[i]
	}
	for i := range s.Silent {
		s.Silent[i] |= o.Silent[i]
	}
}

// HasPass: the pass is in the set.
func (s *WorkSet) HasPass(p RecoveryPass) bool {
	return p < MaxRecoveryPasses && s.Passes[p/64]>>(p%64)&1 != 0
}

func (s *WorkSet) addRow(r versionRow) {
	for _, p := range r.passes {
		s.AddPass(p)
	}
	for _, e := range r.errors {
		s.AddError(e)
	}
}

// upgradeRows are the passes that a volume needs when its version passes a row
// (chapter 09 section 5.2).
var upgradeRows = []versionRow{
	{1, []RecoveryPass{PassCheckSnapshots}, []ErrorID{184, 185}},
	{2, []RecoveryPass{PassCheckInodes}, []ErrorID{244}},
	{3, []RecoveryPass{PassSetFSNeedsReconcile}, nil},
	{5, []RecoveryPass{PassCheckDirents}, []ErrorID{254}},
	{6, []RecoveryPass{PassCheckSubvols}, []ErrorID{256}},
	{7, []RecoveryPass{PassCheckAllocations}, []ErrorID{266}},
	{9, []RecoveryPass{PassCheckAllocations}, []ErrorID{80, 76, 77, 78, 272}},
	{10, []RecoveryPass{PassCheckAllocations}, []ErrorID{80, 76, 77, 78, 272, 278, 279, 280, 277}},
	{11, []RecoveryPass{PassCheckAllocations}, []ErrorID{272}},
	{12, []RecoveryPass{PassCheckAllocations}, []ErrorID{272}},
	{13, []RecoveryPass{PassCheckInodes}, []ErrorID{287}},
	{14, []RecoveryPass{PassCheckExtentsToBackpointers}, []ErrorID{128, 147}},
	{15, []RecoveryPass{PassCheckAllocations}, []ErrorID{272, 278, 277}},
	{21, []RecoveryPass{PassCheckExtentsToBackpointers}, []ErrorID{147}},
	{22, []RecoveryPass{PassCheckExtentsToBackpointers}, []ErrorID{147}},
	{28, []RecoveryPass{PassCheckInodes}, []ErrorID{316, 317}},
	{31, []RecoveryPass{PassCheckAllocations}, []ErrorID{272}},
	{33, []RecoveryPass{PassCheckReconcileWork}, []ErrorID{272, 330}},
	{35, []RecoveryPass{PassCheckAllocInfo, PassCheckAllocToLRURefs}, []ErrorID{345, 346}},
	{38, []RecoveryPass{PassCheckAllocInfo}, []ErrorID{124, 114, 123}},
	{39, []RecoveryPass{PassCheckAllocations, PassCheckLRUs, PassCheckAllocToLRURefs, PassCheckInodes, PassCheckXattrs, PassCheckSnapshots, PassCheckSubvols, PassDeleteDeadSnapshots},
		[]ErrorID{272, 131, 105, 365, 366, 367, 373, 374}},
}

var (
	upgradeStripes  = versionRow{8, []RecoveryPass{PassCheckAllocations}, []ErrorID{108, 271}}
	upgradeIncompat = versionRow{33, []RecoveryPass{PassCheckReconcileWork}, []ErrorID{330}}
	// versions0x are the versions 0.x that ask for every check.
	versions0x = []Version{15, 22, 23, 24, 25, 26, 27, 28, 29}
)

// UpgradeWork is what must be done when a volume whose last complete upgrade
// was to from goes to version to. stripes says that the volume has stripes.
func UpgradeWork(from, to Version, stripes bool) WorkSet {
	var s WorkSet
	passed := func(v Version) bool { return from < v && v <= to }
	for _, v := range versions0x {
		if !passed(v) {
			continue
		}
		for p := range RecoveryPass(NrRecoveryPasses) {
			if p.Flags()&PassFsck != 0 {
				s.AddPass(p)
			}
		}
		if v == 15 {
			s.AddError(189)
			s.AddError(187)
		}
		if v == 25 {
			s.AddPass(PassBucketGensInit)
		}
	}
	if from < 16 && to >= 16 {
		s.AddPass(PassFixReflinkP)
	}
	for _, r := range upgradeRows {
		if passed(Version1_0 + Version(r.minor)) {
			s.addRow(r)
		}
	}
	if stripes && passed(Version1_0+Version(upgradeStripes.minor)) {
		s.addRow(upgradeStripes)
	}
	return s
}

// IncompatUpgradeWork is what must be done besides when incompatible features
// are allowed up to version to, after they were up to from.
func IncompatUpgradeWork(from, to Version) WorkSet {
	var s WorkSet
	if v := Version1_0 + Version(upgradeIncompat.minor); from < v && v <= to {
		s.addRow(upgradeIncompat)
	}
	return s
}

// downgradeRows are the rows of the field downgrade as 1.39 writes them
// (chapter 09 section 4), errors in its order.
var downgradeRows = []versionRow{
	{9, []RecoveryPass{PassCheckAllocations}, []ErrorID{76, 77, 78, 68, 69, 70, 71, 72, 74, 73, 75, 80}},
	{10, []RecoveryPass{PassCheckAllocations}, []ErrorID{76, 77, 78, 68, 69, 70, 71, 72, 74, 73, 75, 273, 80}},
	{12, []RecoveryPass{PassCheckAllocations}, []ErrorID{272, 278, 277}},
	{14, []RecoveryPass{PassCheckExtentsToBackpointers}, []ErrorID{125, 128, 147}},
	{15, []RecoveryPass{PassCheckAllocations}, []ErrorID{272, 278, 277}},
	{31, []RecoveryPass{PassCheckAllocations}, []ErrorID{272, 307}},
	{35, []RecoveryPass{PassCheckAllocInfo, PassCheckAllocToLRURefs}, nil},
	{38, []RecoveryPass{PassCheckAllocInfo}, []ErrorID{124, 114, 123}},
	{39, []RecoveryPass{PassCheckAllocations, PassCheckLRUs, PassCheckAllocToLRURefs}, []ErrorID{131, 105, 272}},
}

var downgradeStripes = versionRow{8, []RecoveryPass{PassCheckAllocations}, []ErrorID{108}}

// DowngradeTable is what the field downgrade of a volume of version v holds:
// what releases before each row must do, byte for byte that of 1.13 and 1.39.
// Releases older than incompat cannot open the volume and need no row. A field
// that is there and longer was written by a newer implementation: keep it.
func DowngradeTable(v, incompat Version, stripes bool) []DowngradeEntry {
	var l []DowngradeEntry
	add := func(r versionRow) {
		row := Version1_0 + Version(r.minor)
		if row > v || row < incompat {
			return
		}
		if v <= Version1_13 && r.minor == 12 {
			r.errors = r.errors[:1] // the later ones were not known
		}
		var s WorkSet
		s.addRow(r)
		l = append(l, DowngradeEntry{Version: row, Passes: s.Passes, Errors: append([]ErrorID(nil), r.errors...)})
	}
	if stripes {
		add(downgradeStripes)
	}
	for _, r := range downgradeRows {
		add(r)
	}
	return l
}

// DowngradeWork is what an implementation that supports versions up to own must
// do with a volume of a newer version, by the field downgrade; nothing when the
// volume is not newer.
func (sb *Superblock) DowngradeWork(own Version) (WorkSet, error) {
	var s WorkSet
	l, err := sb.Downgrade()
	if err != nil || sb.Version <= own {
		return s, err
	}
	for _, e := range l {
		if e.Version.Major() != own.Major() || e.Version <= own || e.Version > sb.Version {
			continue
		}
		s.Add(WorkSet{Passes: e.Passes})
		for _, id := range e.Errors {
			s.AddError(id)
		}
	}
	return s, nil
}
