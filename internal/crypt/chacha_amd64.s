//go:build !purego

#include "textflag.h"

// The rotations of 32-bit words by 16 and by 8, as byte shuffles.
DATA rot16<>+0x00(SB)/8, $0x0504070601000302
DATA rot16<>+0x08(SB)/8, $0x0D0C0F0E09080B0A
DATA rot16<>+0x10(SB)/8, $0x0504070601000302
DATA rot16<>+0x18(SB)/8, $0x0D0C0F0E09080B0A
GLOBL rot16<>(SB), (NOPTR+RODATA), $32

DATA rot8<>+0x00(SB)/8, $0x0605040702010003
DATA rot8<>+0x08(SB)/8, $0x0E0D0C0F0A09080B
DATA rot8<>+0x10(SB)/8, $0x0605040702010003
DATA rot8<>+0x18(SB)/8, $0x0E0D0C0F0A09080B
GLOBL rot8<>(SB), (NOPTR+RODATA), $32

// What the counters of the eight blocks add to that of the first.
DATA lanes<>+0x00(SB)/8, $0x0000000100000000
DATA lanes<>+0x08(SB)/8, $0x0000000300000002
DATA lanes<>+0x10(SB)/8, $0x0000000500000004
DATA lanes<>+0x18(SB)/8, $0x0000000700000006
GLOBL lanes<>(SB), (NOPTR+RODATA), $32

DATA eight<>+0x00(SB)/8, $0x0000000800000008
DATA eight<>+0x08(SB)/8, $0x0000000800000008
DATA eight<>+0x10(SB)/8, $0x0000000800000008
DATA eight<>+0x18(SB)/8, $0x0000000800000008
GLOBL eight<>(SB), (NOPTR+RODATA), $32

// Scratch memory, from R8 on, 32 bytes each: the sixteen words of the state at
// 0, room for Y8 at SPILL, eight vectors of finished keystream at KEEP.
#define SPILL 512
#define KEEP 544

// One step of four quarter rounds: a += b; d = (d ^ a) rotated by a shuffle.
#define ADDXORSHUF(a0, a1, a2, a3, b0, b1, b2, b3, d0, d1, d2, d3, rot) \
	VPADDD b0, a0, a0; VPADDD b1, a1, a1; VPADDD b2, a2, a2; VPADDD b3, a3, a3; \
	VPXOR a0, d0, d0; VPXOR a1, d1, d1; VPXOR a2, d2, d2; VPXOR a3, d3, d3; \
	VPSHUFB rot, d0, d0; VPSHUFB rot, d1, d1; VPSHUFB rot, d2, d2; VPSHUFB rot, d3, d3

#define XOR4(b0, b1, b2, b3, c0, c1, c2, c3) \
	VPXOR c0, b0, b0; VPXOR c1, b1, b1; VPXOR c2, b2, b2; VPXOR c3, b3, b3

// Rotation by shifts needs a register more than there are: Y8, which is in SPILL.
#define ROTATE(b, left, right) \
	VPSRLD right, b, Y8; VPSLLD left, b, b; VPOR Y8, b, b

#define ROTATE4(b0, b1, b2, b3, left, right) \
	ROTATE(b0, left, right); ROTATE(b1, left, right); ROTATE(b2, left, right); ROTATE(b3, left, right)

// Four quarter rounds. The first of the c is Y8, which between its uses is in
// SPILL and free.
#define QUARTERS(a0, a1, a2, a3, b0, b1, b2, b3, c1, c2, c3, d0, d1, d2, d3) \
	ADDXORSHUF(a0, a1, a2, a3, b0, b1, b2, b3, d0, d1, d2, d3, rot16<>(SB)); \
	VPADDD SPILL(R8), d0, Y8; VPADDD d1, c1, c1; VPADDD d2, c2, c2; VPADDD d3, c3, c3; \
	VMOVDQA Y8, SPILL(R8); \
	XOR4(b0, b1, b2, b3, Y8, c1, c2, c3); \
	ROTATE4(b0, b1, b2, b3, $12, $20); \
	ADDXORSHUF(a0, a1, a2, a3, b0, b1, b2, b3, d0, d1, d2, d3, rot8<>(SB)); \
	VPADDD SPILL(R8), d0, Y8; VPADDD d1, c1, c1; VPADDD d2, c2, c2; VPADDD d3, c3, c3; \
	VMOVDQA Y8, SPILL(R8); \
	XOR4(b0, b1, b2, b3, Y8, c1, c2, c3); \
	ROTATE4(b0, b1, b2, b3, $7, $25)

// Y0..Y7 hold eight words of eight blocks, a word a register. Turns them into
// 32 bytes of each block and xors those to the data, 64 bytes apart from off.
#define XOROUT(off) \
	VPUNPCKLDQ Y1, Y0, Y8; \
	VPUNPCKHDQ Y1, Y0, Y9; \
	VPUNPCKLDQ Y3, Y2, Y10; \
	VPUNPCKHDQ Y3, Y2, Y11; \
	VPUNPCKLDQ Y5, Y4, Y12; \
	VPUNPCKHDQ Y5, Y4, Y13; \
	VPUNPCKLDQ Y7, Y6, Y14; \
	VPUNPCKHDQ Y7, Y6, Y15; \
	VPUNPCKLQDQ Y10, Y8, Y0; \
	VPUNPCKHQDQ Y10, Y8, Y1; \
	VPUNPCKLQDQ Y11, Y9, Y2; \
	VPUNPCKHQDQ Y11, Y9, Y3; \
	VPUNPCKLQDQ Y14, Y12, Y4; \
	VPUNPCKHQDQ Y14, Y12, Y5; \
	VPUNPCKLQDQ Y15, Y13, Y6; \
	VPUNPCKHQDQ Y15, Y13, Y7; \
	XORBLOCK(0x20, Y4, Y0, Y8, (off+0)); \
	XORBLOCK(0x20, Y5, Y1, Y9, (off+64)); \
	XORBLOCK(0x20, Y6, Y2, Y10, (off+128)); \
	XORBLOCK(0x20, Y7, Y3, Y11, (off+192)); \
	XORBLOCK(0x31, Y4, Y0, Y8, (off+256)); \
	XORBLOCK(0x31, Y5, Y1, Y9, (off+320)); \
	XORBLOCK(0x31, Y6, Y2, Y10, (off+384)); \
	XORBLOCK(0x31, Y7, Y3, Y11, (off+448))

#define XORBLOCK(half, hi, lo, t, at) \
	VPERM2I128 $half, hi, lo, t; \
	VPXOR at(DI), t, t; \
	VMOVDQU t, at(DI)

#define STATE(i, y) \
	VPBROADCASTD (4*i)(SI), y; \
	VMOVDQA y, (32*i)(R8)

// func xorGroupsAVX2(state *[16]uint32, p *byte, groups int)
TEXT ·xorGroupsAVX2(SB), 0, $832-24
	MOVQ state+0(FP), SI
	MOVQ p+8(FP), DI
	MOVQ groups+16(FP), CX
	LEAQ 31(SP), R8
	ANDQ $~31, R8

	STATE(0, Y0)
	STATE(1, Y1)
	STATE(2, Y2)
	STATE(3, Y3)
	STATE(4, Y4)
	STATE(5, Y5)
	STATE(6, Y6)
	STATE(7, Y7)
	STATE(8, Y8)
	STATE(9, Y9)
	STATE(10, Y10)
	STATE(11, Y11)
	VPBROADCASTD 48(SI), Y12
	VPADDD lanes<>(SB), Y12, Y12
	VMOVDQA Y12, 384(R8)
	STATE(13, Y13)
	STATE(14, Y14)
	STATE(15, Y15)

group:
	VMOVDQA Y8, SPILL(R8)
	MOVQ    $10, AX

rounds:
	// Columns, then diagonals, those from the one with Y8 on.
	QUARTERS(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y9, Y10, Y11, Y12, Y13, Y14, Y15)
	QUARTERS(Y2, Y3, Y0, Y1, Y7, Y4, Y5, Y6, Y9, Y10, Y11, Y13, Y14, Y15, Y12)
	DECQ AX
	JNZ  rounds

	VPADDD 0(R8), Y0, Y0
	VPADDD 32(R8), Y1, Y1
	VPADDD 64(R8), Y2, Y2
	VPADDD 96(R8), Y3, Y3
	VPADDD 128(R8), Y4, Y4
	VPADDD 160(R8), Y5, Y5
	VPADDD 192(R8), Y6, Y6
	VPADDD 224(R8), Y7, Y7
	VMOVDQA SPILL(R8), Y8
	VPADDD 256(R8), Y8, Y8
	VPADDD 288(R8), Y9, Y9
	VPADDD 320(R8), Y10, Y10
	VPADDD 352(R8), Y11, Y11
	VPADDD 384(R8), Y12, Y12
	VPADDD 416(R8), Y13, Y13
	VPADDD 448(R8), Y14, Y14
	VPADDD 480(R8), Y15, Y15

	VMOVDQA Y8, (KEEP+0)(R8)
	VMOVDQA Y9, (KEEP+32)(R8)
	VMOVDQA Y10, (KEEP+64)(R8)
	VMOVDQA Y11, (KEEP+96)(R8)
	VMOVDQA Y12, (KEEP+128)(R8)
	VMOVDQA Y13, (KEEP+160)(R8)
	VMOVDQA Y14, (KEEP+192)(R8)
	VMOVDQA Y15, (KEEP+224)(R8)
	XOROUT(0)

	VMOVDQA (KEEP+0)(R8), Y0
	VMOVDQA (KEEP+32)(R8), Y1
	VMOVDQA (KEEP+64)(R8), Y2
	VMOVDQA (KEEP+96)(R8), Y3
	VMOVDQA (KEEP+128)(R8), Y4
	VMOVDQA (KEEP+160)(R8), Y5
	VMOVDQA (KEEP+192)(R8), Y6
	VMOVDQA (KEEP+224)(R8), Y7
	XOROUT(32)

	DECQ CX
	JZ   done
	ADDQ $512, DI
	VMOVDQA 0(R8), Y0
	VMOVDQA 32(R8), Y1
	VMOVDQA 64(R8), Y2
	VMOVDQA 96(R8), Y3
	VMOVDQA 128(R8), Y4
	VMOVDQA 160(R8), Y5
	VMOVDQA 192(R8), Y6
	VMOVDQA 224(R8), Y7
	VMOVDQA 256(R8), Y8
	VMOVDQA 288(R8), Y9
	VMOVDQA 320(R8), Y10
	VMOVDQA 352(R8), Y11
	VMOVDQA 384(R8), Y12
	VPADDD  eight<>(SB), Y12, Y12
	VMOVDQA Y12, 384(R8)
	VMOVDQA 416(R8), Y13
	VMOVDQA 448(R8), Y14
	VMOVDQA 480(R8), Y15
	JMP     group

done:
	VZEROUPPER
	RET
