//go:build !amd64 || purego

package crypt

// useKernel is for tests, which compare with and without where there is one.
var useKernel = false

// xorGroups does nothing where the library is as fast as it gets: it has
// assembly of its own for arm64 and others.
func xorGroups(*Key, Nonce, []byte) int { return 0 }
