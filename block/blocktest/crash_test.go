package blocktest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/block"
)

// play makes a log of devices of 64 KiB from words: "0:8+16" writes 16 sectors
// at sector 8 of device 0, "0-8+16" discards them, "F0" flushes, others are marks.
func play(t *testing.T, devices int, script string) *Log {
	t.Helper()
	var bases []block.Reader
	for range devices {
		bases = append(bases, block.NewMemory("m", Pattern(64<<10)))
	}
	rs := NewRecorders(bases...)
	for i, w := range strings.Fields(script) {
		var dev, off, n int
		var err error
		switch {
		case w[0] == 'F':
			err = rs[w[1]-'0'].Flush(context.Background())
		case strings.Contains(w, ":"):
			if _, err = fmt.Sscanf(w, "%d:%d+%d", &dev, &off, &n); err == nil {
				err = write(rs[dev], bytes.Repeat([]byte{byte(i + 1)}, n*512), int64(off)*512)
			}
		case strings.Contains(w, "-"):
			if _, err = fmt.Sscanf(w, "%d-%d+%d", &dev, &off, &n); err == nil {
				err = rs[dev].Discard(context.Background(), int64(off)*512, int64(n)*512)
			}
		default:
			rs[0].Mark(w)
		}
		if err != nil {
			t.Fatalf("%q: %v", w, err)
		}
	}
	return rs[0].Log()
}

func TestStatesGolden(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		o            StateOptions
		want         string
	}{
		{"nothing", "", StateOptions{}, `
state 0: at the end (op 0), nothing pending`},
		{"one sector", "0:8+1", StateOptions{}, `
state 0: at the end (op 1), none of 1 pending there
state 1: at the end (op 1), 1 of 1 pending there`},
		{"flushes alone", "F0 F0 F0", StateOptions{}, `
state 0: in flush 0 (op 0, device 0), nothing pending`},
		{"a commit", "0:8+1 F0 0:0+1 F0 done F0", StateOptions{}, `
state 0: in flush 0 (op 1, device 0), none of 1 pending there
state 1: in flush 0 (op 1, device 0), 1 of 1 pending there
state 2: in flush 1 (op 3, device 0), none of 1 pending there
state 3: in flush 1 (op 3, device 0), 1 of 1 pending there
state 4: in flush 2 (op 5, device 0), nothing pending, after "done"`},
		{"a tear of two sectors", "0:8+2", StateOptions{}, `
state 0: at the end (op 1), none of 1 pending there
state 1: at the end (op 1), 1 of 1 pending there
state 2: at the end (op 1), 1 of 1 pending there, 1 (op 0, write of 1024 bytes at 4096 of device 0) without its first sector
state 3: at the end (op 1), 1 of 1 pending there, 1 (op 0, write of 1024 bytes at 4096 of device 0) but only the first half`},
		{"no tear of one sector of 4 KiB", "0:8+8", StateOptions{Sector: 4096}, `
state 0: at the end (op 1), none of 1 pending there
state 1: at the end (op 1), 1 of 1 pending there`},
		{"two writes", "0:8+5 a 0:0+1 F0", StateOptions{}, `
state 0: in flush 0 (op 3, device 0), none of 2 pending there, after "a"
state 1: in flush 0 (op 3, device 0), 1 of 2 pending there, after "a"
state 2: in flush 0 (op 3, device 0), 1-2 of 2 pending there, after "a"
state 3: in flush 0 (op 3, device 0), 2 of 2 pending there, after "a"
state 4: in flush 0 (op 3, device 0), 1 of 2 pending there, 1 (op 0, write of 2560 bytes at 4096 of device 0) without its first sector, after "a"
state 5: in flush 0 (op 3, device 0), 1 of 2 pending there, 1 (op 0, write of 2560 bytes at 4096 of device 0) but only the first half, after "a"
state 6: in flush 0 (op 3, device 0), 1 of 2 pending there, 1 (op 0, write of 2560 bytes at 4096 of device 0) without its last sector, after "a"`},
		{"more tears, every second", "0:0+3 0:8+1", StateOptions{MoreTears: true, Every: 2, Phase: 4}, `
state 4: at the end (op 2), 1 of 2 pending there, 1 (op 0, write of 1536 bytes at 0 of device 0) without its first sector
state 6: at the end (op 2), 1 of 2 pending there, 1 (op 0, write of 1536 bytes at 0 of device 0) without its last sector
state 8: at the end (op 2), 1-2 of 2 pending there, 1 (op 0, write of 1536 bytes at 0 of device 0) without its first sector
state 10: at the end (op 2), 1-2 of 2 pending there, 1 (op 0, write of 1536 bytes at 0 of device 0) without its last sector`},
		{"two devices", "0:8+1 1:8+1 F0 F1 1-0+1 F0 F0", StateOptions{}, `
state 0: in flush 0 (op 2, device 0), none of 2 pending there
state 1: in flush 0 (op 2, device 0), 1 of 2 pending there
state 2: in flush 0 (op 2, device 0), 1-2 of 2 pending there
state 3: in flush 0 (op 2, device 0), 2 of 2 pending there
state 4: in flush 1 (op 3, device 1), none of 1 pending there
state 5: in flush 1 (op 3, device 1), 1 of 1 pending there
state 6: in flush 2 (op 5, device 0), none of 1 pending there
state 7: in flush 2 (op 5, device 0), 1 of 1 pending there`},
	} {
		l := play(t, 2, tt.script)
		var got strings.Builder
		n := 0
		for s := range l.States(tt.o) {
			fmt.Fprintf(&got, "\n%v", s)
			n++
		}
		if d := cmp.Diff(tt.want, got.String()); d != "" {
			t.Errorf("%s: States (-want +got):\n%s", tt.name, d)
		}
		if c := l.Count(tt.o); c != n {
			t.Errorf("%s: Count() = %d, want %d", tt.name, c, n)
		}
	}
}

// TestStatesCounts: how many states there are of n writes in one cut. All
// subsets of up to 8: 2ⁿ. Of more: n+1 prefixes, n-1 more with one missing, n-1
// more with one alone, 64 more at random. Tears: 3 for each write; with more of
// them 5, and again 5 for all but the last.
func TestStatesCounts(t *testing.T) {
	type counts struct{ Sectors1, Sectors8, More, Few int }
	got := map[int]counts{}
	for _, n := range []int{1, 2, 3, 8, 9, 20, 70, 200} {
		script := func(sectors int) (s string) {
			for i := range n {
				s += fmt.Sprintf("0:%d+%d ", i%16*8, sectors)
			}
			return s
		}
		one, eight := play(t, 1, script(1)), play(t, 1, script(8))
		got[n] = counts{one.Count(StateOptions{}), eight.Count(StateOptions{}), eight.Count(StateOptions{MoreTears: true}),
			eight.Count(StateOptions{Subsets: -1, Samples: -1})}
	}
	want := map[int]counts{
		1:   {2, 5, 7, 5},
		2:   {4, 10, 19, 10},
		3:   {8, 17, 33, 17},
		8:   {256, 280, 331, 47},
		9:   {90, 117, 175, 53},
		20:  {123, 183, 318, 119},
		70:  {273, 483, 968, 419},
		200: {663, 1263, 2658, 1199},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Count by number of writes (-want +got):\n%s", d)
	}
}

// image is what a state must hold, put together sector by sector.
func (s *State) image(dev int, base []byte, sector int64) []byte {
	b := bytes.Clone(base)
	apply := func(o Op, from, to int64) {
		data := o.Data()
		for at := o.Off; at < o.Off+o.N; at++ {
			switch {
			case at >= from && at < to:
			case o.Kind == OpDiscard:
				b[at] = Discarded
			default:
				b[at] = data[at-o.Off]
			}
		}
	}
	for i, o := range s.cut.gen.ops[:s.cut.end] {
		if o.Dev != dev || (o.Kind != OpWrite && o.Kind != OpDiscard) {
			continue
		}
		p := slices.Index(s.cut.pending, i)
		first, last := o.Off/sector, (o.Off+o.N-1)/sector
		from, to := int64(0), int64(0) // of what is missing
		switch {
		case p >= 0 && !s.choice.has(p):
			continue
		case p < 0 || p != s.choice.torn:
		case s.choice.tear == noFirst:
			from, to = first, first+1
		case s.choice.tear == half:
			from, to = first+(last-first+1)/2, last+1
		case s.choice.tear == noLast:
			from, to = last, last+1
		case s.choice.tear == noMiddle:
			from = first + (last-first+1)/2
			to = from + 1
		case s.choice.tear == oneFirst:
			from, to = first+1, last+1
		}
		apply(o, from*sector, to*sector)
	}
	return b
}

// TestStatesAgainstModel plays random logs, and puts each state together in
// another way.
func TestStatesAgainstModel(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		const size = 40_000
		base := Pattern(size)
		rs := NewRecorders(block.NewMemory("a", base), block.NewMemory("b", base))
		for i := range 24 {
			r := rs[rng.IntN(2)]
			off := rng.Int64N(size)
			n := min(1+rng.Int64N(1<<(3+rng.IntN(11))), size-off)
			switch rng.IntN(8) {
			case 0:
				if err := r.Discard(ctx, off, n); err != nil {
					t.Fatal(err)
				}
			case 1, 2:
				if err := r.Flush(ctx); err != nil {
					t.Fatal(err)
				}
			case 3:
				r.Mark(fmt.Sprint(i))
			default:
				p := make([]byte, n)
				fillRandom(rng, p)
				if err := write(r, p, off); err != nil {
					t.Fatal(err)
				}
			}
		}
		l := rs[0].Log()
		o := StateOptions{Sector: []int64{512, 4096, 1000}[seed%3], Subsets: 4, Samples: 10, Seed: seed, MoreTears: true}
		var names []string
		got := make([]byte, size)
		rewritten := [][]byte{bytes.Clone(base), bytes.Clone(base)}
		for s := range l.States(o) {
			names = append(names, s.String())
			for dev, r := range s.Readers() {
				if _, err := r.ReadAt(got, 0); err != nil {
					t.Fatalf("seed %d, %v: %v", seed, s, err)
				}
				want := s.image(dev, base, o.Sector)
				if !bytes.Equal(got, want) {
					t.Fatalf("seed %d, %v: device %d is not what the log says", seed, s, dev)
				}
				// Piecewise, which reads pages in part.
				at := rng.IntN(size)
				p := make([]byte, rng.IntN(size-at))
				if _, err := r.ReadAt(p, int64(at)); err != nil || !bytes.Equal(p, want[at:at+len(p)]) {
					t.Fatalf("seed %d, %v: ReadAt(%d bytes, %d) differs from the whole", seed, s, len(p), at)
				}
				if err := s.Patch(dev, patchable(rewritten[dev])); err != nil || !bytes.Equal(rewritten[dev], want) {
					t.Fatalf("seed %d, %v: Patch = %v, or not what the state is", seed, s, err)
				}
			}
		}
		if len(names) != l.Count(o) || len(names) < 50 {
			t.Errorf("seed %d: %d states, Count() = %d, want the same and at least 50", seed, len(names), l.Count(o))
		}
		sorted := slices.Clone(names)
		slices.Sort(sorted)
		if n := len(slices.Compact(sorted)); n != len(names) {
			t.Errorf("seed %d: %d of %d states are different, want all", seed, n, len(names))
		}
		// Again the same, and one by one.
		i := 0
		for s := range l.States(o) {
			if s.String() != names[i] || s.Index != i {
				t.Fatalf("seed %d: the second time, state %d is %v, want %s", seed, i, s, names[i])
			}
			i++
		}
		for _, i := range []int{0, len(names) / 2, len(names) - 1} {
			if s := l.State(o, i); s.String() != names[i] {
				t.Errorf("seed %d: State(%d) = %v, want %s", seed, i, s, names[i])
			}
		}
		if s := l.State(o, len(names)); s != nil {
			t.Errorf("seed %d: State(%d) = %v, want nil", seed, len(names), s)
		}
		// Samples are a part.
		o.Every, o.Phase = 7, 3
		i = 3
		for s := range l.States(o) {
			if s.String() != names[i] {
				t.Fatalf("seed %d: every 7th from 3: %v, want %s", seed, s, names[i])
			}
			i += 7
		}
		if n := (len(names) - 3 + 6) / 7; l.Count(o) != n || i != 3+7*n {
			t.Errorf("seed %d: every 7th from 3: Count() = %d, want %d", seed, l.Count(o), n)
		}
		final := l.Final()
		if _, err := final.Readers()[0].ReadAt(got, 0); err != nil || !bytes.Equal(got, final.image(0, base, 512)) {
			t.Errorf("seed %d: Final is not what the log says (%v)", seed, err)
		}
		now := make([]byte, size)
		if _, err := rs[0].ReadAt(now, 0); err != nil || !bytes.Equal(got, now) {
			t.Errorf("seed %d: Final is not what the device holds (%v)", seed, err)
		}
	}
}

// patchable is a slice as an io.WriterAt.
type patchable []byte

func (b patchable) WriteAt(p []byte, off int64) (int, error) { return copy(b[off:], p), nil }

func TestStatesMarks(t *testing.T) {
	l := play(t, 1, "0:0+1 F0 mkfs 0:1+1 F0 one 0:2+1 two 0:3+1 F0")
	type seen struct {
		Cut, Ops int
		Marks    string
	}
	var got []seen
	for s := range l.States(StateOptions{After: "mkfs"}) {
		m := seen{s.Cut(), s.Ops(), strings.Join(s.Marks(), " ")}
		if len(got) == 0 || got[len(got)-1] != m {
			got = append(got, m)
		}
		if !s.Reached("mkfs") || s.Reached("two") != (s.Cut() == 2) {
			t.Errorf("%v: Reached is wrong", s)
		}
	}
	want := []seen{{1, 4, "mkfs"}, {2, 9, "mkfs one two"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("cuts after mkfs (-want +got):\n%s", d)
	}
	if first := l.State(StateOptions{After: "one"}, 0); first.Cut() != 2 {
		t.Errorf("the first state after a mark is %v, want one of cut 2", first)
	}
	defer func() {
		if recover() == nil {
			t.Error("States after a mark that is not there did not panic")
		}
	}()
	l.Count(StateOptions{After: "three"})
}

// journal is a toy: two slots for a value, and a header that says which counts.
// Careful is what a Flush between the two costs.
type journal struct {
	w       block.Writer
	careful bool
	seq     uint64
}

const journalSlot = 8192

func (j *journal) put(value string) error {
	ctx := context.Background()
	j.seq++
	b := make([]byte, journalSlot)
	copy(b[8:], value)
	binary.LittleEndian.PutUint32(b, crc32.ChecksumIEEE(b[8:]))
	if err := write(j.w, b, 4096+int64(j.seq%2)*journalSlot); err != nil {
		return err
	}
	if j.careful {
		if err := j.w.Flush(ctx); err != nil {
			return err
		}
	}
	h := make([]byte, 512)
	binary.LittleEndian.PutUint64(h, j.seq)
	if err := write(j.w, h, 0); err != nil {
		return err
	}
	return j.w.Flush(ctx)
}

func journalValue(r block.Reader) (string, error) {
	h, b := make([]byte, 512), make([]byte, journalSlot)
	if _, err := r.ReadAt(h, 0); err != nil {
		return "", err
	}
	if _, err := r.ReadAt(b, 4096+int64(binary.LittleEndian.Uint64(h)%2)*journalSlot); err != nil {
		return "", err
	}
	if binary.LittleEndian.Uint32(b) != crc32.ChecksumIEEE(b[8:]) {
		return "", fmt.Errorf("slot %d is torn", binary.LittleEndian.Uint64(h)%2)
	}
	value, _, _ := bytes.Cut(b[8:], []byte{0})
	return string(value), nil
}

// TestStatesFindBugs: the states tell a program that flushes from one that does
// not, and a device that keeps its word from one that does not.
func TestStatesFindBugs(t *testing.T) {
	for _, tt := range []struct {
		name    string
		careful bool
		rules   []Rule
		bad     int // states that are not as promised
	}{
		{"careful", true, nil, 0},
		{"careless", false, nil, 4},
		{"careful, flushes lost", true, []Rule{FlushLost()}, 180},
	} {
		r := NewRecorder(block.NewSparse("s", 1<<20))
		j := &journal{w: NewFaultWriter(r, tt.rules...), careful: tt.careful}
		if err := j.put("v0"); err != nil {
			t.Fatal(err)
		}
		r.Log().Reset()
		for i := 1; i <= 4; i++ {
			if err := j.put(fmt.Sprint("v", i)); err != nil {
				t.Fatal(err)
			}
			r.Mark(fmt.Sprint("v", i))
		}
		var bad []string
		for s := range r.Log().States(StateOptions{}) {
			// The value of the last mark, or the next one.
			done := len(s.Marks())
			got, err := journalValue(s.Devices()[0])
			if err != nil || (got != fmt.Sprint("v", done) && got != fmt.Sprint("v", done+1)) {
				bad = append(bad, fmt.Sprintf("%v: %q, %v", s, got, err))
			}
		}
		if len(bad) != tt.bad {
			t.Errorf("%s: %d states are bad, want %d:\n%s", tt.name, len(bad), tt.bad, strings.Join(bad[:min(len(bad), 5)], "\n"))
		}
	}
}

// TestStatesInParallel uses states in many goroutines while the log grows.
func TestStatesInParallel(t *testing.T) {
	base := Pattern(64 << 10)
	r := NewRecorder(block.NewMemory("m", base))
	for i := range 6 {
		if err := write(r, bytes.Repeat([]byte{byte(i)}, 5000), int64(i)*3000); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	n := 0
	for s := range r.Log().States(StateOptions{}) {
		n++
		if n%3 == 0 {
			if err := write(r, []byte{9}, int64(n)); err != nil {
				t.Fatal(err)
			}
		}
		wg.Go(func() {
			w := s.Devices()[0]
			want := s.image(0, base, 512)
			got := make([]byte, len(want))
			if _, err := w.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v: not what the log says (%v)", s, err)
			}
			if err := write(w, []byte("x"), 100); err != nil {
				t.Error(err)
			}
			if got := readString(t, w, 100, 1); got != "x" {
				t.Errorf("%v: a device of a state has %q, want what was written", s, got)
			}
			if got := readString(t, s.Readers()[0], 100, 1); got != string(want[100:101]) {
				t.Errorf("%v: a write to one device of a state shows in another", s)
			}
		})
	}
	wg.Wait()
	if n < 64 {
		t.Errorf("%d states, want at least 64", n)
	}
}

// TestStateRecorders cuts the power again during recovery.
func TestStateRecorders(t *testing.T) {
	l := play(t, 1, "0:0+1 0:8+1")
	s := l.State(StateOptions{}, 1)
	rs := s.Recorders()
	if err := write(rs[0], []byte("again"), 4096); err != nil {
		t.Fatal(err)
	}
	var got []string
	for s2 := range rs[0].Log().States(StateOptions{}) {
		got = append(got, readString(t, s2.Readers()[0], 4096, 5))
	}
	if want := []string{string(Pattern(64 << 10)[4096:4101]), "again"}; !slices.Equal(got, want) {
		t.Errorf("states of a state have %q, want %q", got, want)
	}
}

// BenchmarkStates opens each state of a log of many writes and reads a little.
func BenchmarkStates(b *testing.B) {
	r := NewRecorder(block.NewSparse("s", 64<<20))
	p := Pattern(256 << 10)
	for i := range 400 {
		if err := write(r, p[:4096*(1+i%64)], int64(i)*100_000); err != nil {
			b.Fatal(err)
		}
		if i%100 == 99 {
			if err := r.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("count", func(b *testing.B) {
		for b.Loop() {
			if n := r.Log().Count(StateOptions{}); n == 0 {
				b.Fatal("no states")
			}
		}
	})
	b.Run("read 1 MiB", func(b *testing.B) {
		buf := make([]byte, 1<<20)
		for {
			for s := range r.Log().States(StateOptions{}) {
				if !b.Loop() {
					return
				}
				if _, err := s.Devices()[0].ReadAt(buf, 20<<20); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
