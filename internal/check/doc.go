// Package check verifies a whole volume without changing it (chapter 07): the
// superblock copies, the journal, every node of every btree on every member, and
// everything that can be derived from something else.
//
// It recomputes what is derived on its own. What the engine writes follows from
// the table of package consequence, which this package must not import, so that
// a mistake there is not repeated here; nor does it use the engine's node
// reader, allocator or file layer. Of the engine it takes the members (sectors
// and keys), the state of the journal, and for the paths in findings the trees.
//
// How it goes, in Run:
//
//   - superblocks and journal, as they stand on each member (super.go, journal.go);
//   - all interior nodes: topology, and a list of the leaves of each btree (tree.go);
//   - snapshots and subvolumes (snapshots.go), which say what is visible where;
//   - then passes over windows of buckets, inodes and indirect extents, as many as
//     the memory budget asks for, one usually. A pass loads the alloc keys and the
//     inodes of its windows, walks everything that points at them (files.go,
//     pointers.go) and everything that is indexed by them (indexes.go), many
//     ranges at once, and compares (buckets.go, links.go).
//
// Backpointers, LRU entries and the like are compared by keyed sums of their
// bytes per bucket, so that neither side has to be held; only buckets whose sums
// differ are looked at key by key (detail.go). The sums use a random key of the
// run: a difference goes unnoticed with a probability of 2^-64 a bucket.
//
// A finding names what is wrong with the name and number of chapter 01 appendix A
// where it has one, and of this package where the reference never looks
// (docs/check.md lists those).
package check
