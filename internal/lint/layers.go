package lint

import (
	"slices"
	"strings"
)

// layer says what one package of ours may import: packages by their path below
// the module, "." the root package. Test files are free.
type layer struct {
	may []string
	why string
}

// leaves are algorithms without state.
var leaves = []string{
	"internal/casefold", "internal/compress", "internal/crypt", "internal/csum", "internal/human",
	"internal/raidpq", "internal/signature", "internal/strhash",
}

// engine is the chain of the engine: each may import what stands to its right.
var engine = []string{
	"internal/engine", "internal/passes", "internal/objects", "internal/data", "internal/alloc",
	"internal/snapshots", "internal/btree", "internal/journal", "internal/members",
}

// consequence is the table of what follows from a key. The engine down to btree
// applies it; the check must not, since it recomputes the same on its own.
const consequence = "internal/consequence"

// testOnly, and what is below them, may be imported by test files, and by each
// other, only.
var testOnly = []string{"block/blocktest", "internal/lint", "internal/oracle", "internal/testvol"}

// servesTests reports whether a package is in testOnly.
func servesTests(pkg string) bool {
	return slices.ContainsFunc(testOnly, func(p string) bool { return pkg == p || strings.HasPrefix(pkg, p+"/") })
}

// layerOf finds the row of a package.
func layerOf(pkg string) (layer, bool) {
	if servesTests(pkg) {
		return layer{join([]string{"errs", "ondisk", "block"}, leaves),
			"what serves tests sees no engine, so that every package's tests can use it"}, true
	}
	l, ok := layers[pkg]
	return l, ok
}

// layers is the whole table; a package that is not in it fails the test.
var layers = func() map[string]layer {
	m := map[string]layer{
		"errs": {nil,
			"errs imports nothing of ours, so that outsiders of ondisk and block can name what they get"},
		"ondisk": {[]string{"errs", "internal/csum"},
			"ondisk is bytes to typed values and back: pure, public, without I/O or state"},
		"block": {[]string{"errs"},
			"block is where bytes come from; it does not know what they mean"},
		".": {join([]string{"errs", "ondisk", "block", "internal/check", "internal/dump", "internal/explain", "internal/mkfs"}, leaves, engine),
			"the root package is the one door to the engine"},
		"iofs": {[]string{".", "errs"},
			"iofs only translates the root package into fs.FS"},
		"serve/fuse": {[]string{".", "errs", "ondisk", "block", "internal/human"},
			"front ends see only the root package, never the engine"},
		"cli": {[]string{".", "errs", "ondisk", "block", "iofs", "serve/fuse", "internal/explain", "internal/human", "internal/signature"},
			"commands see only the root package and what prints, never the engine"},
		"cmd/gobcachefs": {[]string{"cli"},
			"main is dispatch and signals; all else is in cli, where it is tested"},
		"bench": {nil,
			"the benchmark drives programs from outside, as a user does"},
		"internal/explain": {[]string{"errs", "ondisk", "internal/human"},
			"explain prints values of ondisk; it reads no volume"},
		"internal/dump": {join([]string{"errs", "ondisk", "block"}, leaves, engine[1:]),
			"dump sits beside the engine's passes and does not start an engine"},
	}
	m["internal/mkfs"] = layer{join([]string{"errs", "ondisk", "block"}, leaves, engine),
		"mkfs writes an empty volume and has an engine fill it"}
	m["internal/check"] = layer{join([]string{"errs", "ondisk", "block"}, leaves, []string{"internal/journal", "internal/members"}),
		"the check recomputes derived state on its own, from nodes that it reads on its own: with the engine's tables and allocator it would repeat their mistakes"}
	m[consequence] = layer{join([]string{"errs", "ondisk"}, leaves),
		"consequences are pure functions of keys: no I/O, no state"}
	for _, l := range leaves {
		m[l] = layer{[]string{"errs"}, "leaves are algorithms: they import errs and outside libraries"}
	}
	m["internal/crypt"] = layer{[]string{"errs", "internal/csum"},
		"crypt sums by the types of csum: the leaf under it"}
	for i, e := range engine {
		may := join([]string{"errs", "ondisk", "block"}, leaves, engine[i+1:])
		if i <= slices.Index(engine, "internal/btree") {
			may = append(may, consequence)
		}
		m[e] = layer{may,
			"in the engine each package imports what is below it, never what is above: engine, passes, objects, data, alloc, snapshots, btree, journal, members"}
	}
	return m
}()

func join(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
