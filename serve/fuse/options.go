package fuse

import (
	"time"

	"github.com/gobcachefs/gobcachefs"
)

// Options of New. The zero value mounts the root of the volume for the user who
// mounts it.
type Options struct {
	// Subvolume is shown as the root of the mount; nil means Volume.Root.
	Subvolume *bcachefs.Subvolume
	// Source is what the mount table shows as the device.
	Source string
	// AllowOther lets all users in, as far as permissions go. Without it only
	// the user who mounted may look. Ordinary users need user_allow_other in
	// /etc/fuse.conf for it.
	AllowOther bool
	// Words are generic mount options, as mount(8) has them, that change the
	// default ro,nosuid,nodev: suid, dev, noexec, noatime, nodiratime,
	// strictatime, sync, dirsync and their inverses. Ordinary users cannot give
	// suid and dev. Others are refused by Mount.
	Words []string
	// CacheTime is how long the kernel may keep names and attributes; 0 means 30
	// days.
	CacheTime time.Duration
	// Warn is told of errors that requests met, each file once. It may be
	// called from many goroutines at once.
	Warn func(error)
}
