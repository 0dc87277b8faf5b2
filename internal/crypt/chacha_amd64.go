//go:build !purego

package crypt

import "golang.org/x/sys/cpu"

// useKernel says that this machine can run xorGroupsAVX2. Tests turn it off.
var useKernel = cpu.X86.HasAVX2

// xorGroupsAVX2 xors the keystream of state, which is the initial ChaCha20
// state with the counter of the first block, to groups times 512 bytes from p
// on. The counter wraps. Eight blocks are computed side by side.
//
//go:noescape
func xorGroupsAVX2(state *[16]uint32, p *byte, groups int)

// xorGroups does as many whole groups of eight blocks of p as it can and
// returns how many bytes that were.
func xorGroups(k *Key, n Nonce, p []byte) int {
	groups := len(p) / groupSize
	if !useKernel || groups == 0 {
		return 0
	}
	state := initialState(k, n)
	xorGroupsAVX2(&state, &p[0], groups)
	return groups * groupSize
}
