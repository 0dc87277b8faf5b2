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
//	name ── OpenWriter ─┬─ block device   opened for this program alone
//	        Create      └─ regular file   locked, can be resized
//
// Writers are exclusive: advisory locks keep this package's readers and other
// writers away, the system keeps away what is mounted or part of another device
// (Mounted says where). What is written is durable after Flush, and a Flush that
// failed cannot be repeated.
//
// NewMemory, NewSparse and NewOverlay make devices that live in memory;
// OpenOverlayFile keeps what is written above a device in a file beside it.
// Package block/blocktest has the tests that every kind of device passes, the
// fault injector, and the recorder that replays power cuts.
package block
