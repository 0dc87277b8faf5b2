//go:build (linux && !(386 || arm || mips || mipsle)) || darwin || freebsd

package fuse

// Supported says whether volumes can be mounted on this system.
const Supported = true
