// Package testvol is for tests: volumes written by the real implementation,
// and what it showed of them.
//
// A Set is a folder of volumes. Small is the one in testdata/volumes, which
// every test may use; Full is the whole set, outside of the repository, for
// tests with the build tag shared. A volume is opened with Load (devices in
// memory) or Paths (real files, for commands and mounts).
//
// A manifest says what a mount of a volume shows, one Entry a path. ManifestOf
// makes one by walking anything that implements FS (the library through an
// adapter, a mounted directory through OSFS), and Diff compares two, minus the
// Quirks of how the volume was made.
//
// What is missing fails the test; nothing here skips one.
package testvol
