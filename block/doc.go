// Package block is where the bytes of a volume come from: block devices, image
// files, compressed images, images behind HTTP, and memory.
//
// A Reader is an array of bytes of fixed size that can only be read; a Writer
// can be written too. They are two interfaces so that the compiler proves that
// what was opened to read is never written: nothing that Open returns has a
// WriteAt method.
//
//	name ── Open ──┬─ http(s)://…        HTTP range requests, small cache
//	               ├─ block device       ioctls for size and geometry
//	               ├─ zstd compressed    unpacked into a sparse unlinked file
//	               └─ regular file
//
// NewMemory, NewSparse and NewOverlay make devices that live in memory;
// package block/blocktest has the fault injector and the tests that every kind
// of device passes.
package block
