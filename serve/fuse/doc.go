// Package fuse mounts a subvolume of a volume, read-only, through go-fuse's raw
// API: the kernel's requests on node ids become calls of bcachefs.Files on
// (subvolume, inode) pairs.
//
//	srv, err := fuse.New(vol, fuse.Options{Source: "disk.img"})
//	...
//	err = srv.Mount("/mnt")
//	err = srv.Serve(ctx) // until unmounted, or until ctx ends, which unmounts
//
// # Node ids
//
// A node id is what Attr.Ino shows as st_ino, since that is made from the
// (subvolume, inode) pair and can be taken apart again. So there is no table of
// nodes that the kernel has looked up, nothing that grows with the tree, and a
// node id that an NFS server kept is good after a remount. The few files whose
// number cannot be taken apart (see bcachefs.Ino) get ids from a table with
// lookup counts. 1 is the root of the mount.
//
// # State
//
// None is kept for open files and directories: reads go by node id, listings by
// cookie. Where the kernel allows it OPEN, OPENDIR, RELEASE and FLUSH are
// answered once with "not implemented", and it never asks again. Handles that
// recent reads used are cached.
//
// # Caching
//
// Nothing changes below a read-only mount, so names, attributes, listings, link
// targets and data may stay in the kernel's caches for as long as it likes. Small
// files that a program is about to read, since it reads a directory in the order
// of its listing, are put into that cache before they are asked for.
//
// # Permissions
//
// They are the kernel's business (default_permissions), and so are ACLs, which
// it asks for as system.posix_acl_access.
//
// # Errors
//
// A request that meets damage fails with the number of errs.Errno, EIO mostly,
// for itself only. A read that cannot be served in full is an error in full: a
// short answer would mean the end of the file to the kernel. A listing that has
// holes shows what there is and fails at its end.
//
// # Deadlocks
//
// A process that serves a mount must not wait for it while holding what the
// answer needs. Nothing in this package opens files of the mount; tests that do
// use plain system calls, never package os, whose poller would block.
package fuse
