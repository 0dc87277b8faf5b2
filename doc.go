// Package bcachefs reads bcachefs volumes in user space: image files, block
// devices, or anything that is a block.Reader, without kernel support.
//
//	vol, err := bcachefs.OpenPath(ctx, "disk.img", bcachefs.Options{})
//	...
//	f, err := vol.Root().Open(ctx, "/etc/fstab")
//
// Three doors lead into a Volume:
//
//   - Subvolume finds files by path, for programs and people;
//   - Files works on (subvolume, inode) pairs without paths, with handles and
//     stable directory cookies, for FUSE and other servers;
//   - Inspector shows the structures below the files, for the debugging commands.
//
// Everything is safe for concurrent use. Nothing is ever written: devices are
// opened to read by type, and what the journal of an unclean volume holds is
// applied in memory. Every byte of a file is verified against its checksum
// before it is returned, if it has one.
//
// Errors match the kinds of package errs with errors.Is, and POSIX numbers
// (fs.ErrNotExist and so on) where that is what they mean.
package bcachefs
