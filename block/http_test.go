package block_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/errs"
)

// site is a web server with one file, which a test can make misbehave.
type site struct {
	*httptest.Server
	mu       sync.Mutex
	data     []byte
	etag     string
	modified time.Time
	requests []string // values of the Range header
	// hook, if it is set, may answer instead of the server.
	hook func(n int, w http.ResponseWriter, r *http.Request) bool
}

func newSite(t *testing.T, data []byte) *site {
	s := &site{data: data, etag: `"one"`, modified: time.Unix(1_700_000_000, 0)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Header.Get("Range"))
		n, hook, b, etag, mod := len(s.requests), s.hook, s.data, s.etag, s.modified
		s.mu.Unlock()
		if etag != "" {
			w.Header().Set("ETag", etag)
		}
		if hook != nil && hook(n, w, r) {
			return
		}
		http.ServeContent(w, r, "", mod, bytes.NewReader(b))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *site) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// fast has no pauses worth the name.
var fast = block.Options{HTTPBackoff: time.Microsecond}

func TestHTTPSuite(t *testing.T) {
	want := blocktest.Pattern(3_000_123)
	s := newSite(t, want)
	blocktest.Suite(t, func() block.Reader { return mustOpen(t, s.URL+"/x.img", fast) }, want)
}

func TestHTTPSmallAndEmpty(t *testing.T) {
	for _, n := range []int{0, 1, 3, 511, 65535, 65536, 65537} {
		want := blocktest.Pattern(n)
		s := newSite(t, want)
		r := mustOpen(t, s.URL, fast)
		got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("a file of %d bytes reads as %d bytes, %v", n, len(got), err)
		}
	}
	// An empty file on a server that says so with 416.
	s := newSite(t, nil)
	s.hook = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Range", "bytes */0")
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return true
	}
	if r := mustOpen(t, s.URL, fast); r.Size() != 0 {
		t.Errorf("Size() of an empty file = %d, want 0", r.Size())
	}
}

func TestHTTPZstd(t *testing.T) {
	want := blocktest.Pattern(2_000_000)
	s := newSite(t, compress(t, want))
	opts := fast
	opts.SpoolDir = t.TempDir()
	r := mustOpen(t, s.URL+"/x.img.zst", opts)
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("unpacked to %d bytes, %v, want the %d that were packed", len(got), err, len(want))
	}
	if i := r.Info(); i.Kind != block.KindZstd {
		t.Errorf("Info().Kind = %q, want zstd", i.Kind)
	}
	// A connection that always breaks must not look like a short image.
	s.set(func() {
		s.hook = func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n > 20 {
				panic(http.ErrAbortHandler)
			}
			return false
		}
		s.requests = make([]string, 20)
	})
	if _, err := block.Open(context.Background(), s.URL, opts); !errors.Is(err, errs.ErrIO) || errors.Is(err, errs.ErrCorrupt) {
		t.Errorf("Open over a broken connection = %v, want ErrIO", err)
	}
}

func TestHTTPInfoHidesPassword(t *testing.T) {
	s := newSite(t, []byte("data"))
	s.hook = func(n int, w http.ResponseWriter, r *http.Request) bool {
		if u, p, _ := r.BasicAuth(); u != "me" || p != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	}
	r := mustOpen(t, strings.Replace(s.URL, "http://", "http://me:secret@", 1)+"/x", fast)
	if i := r.Info(); i.Kind != block.KindHTTP || !i.ReadOnly || strings.Contains(fmt.Sprint(i), "secret") || !strings.HasSuffix(i.Name, "/x") {
		t.Errorf("Info() = %+v, want a read-only http device without the password", i)
	}
	_, err := block.Open(context.Background(), strings.Replace(s.URL, "http://", "http://me:wrong@", 1), fast)
	if !errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "wrong") {
		t.Errorf("Open with a wrong password = %v, want ErrPermission, without the password", err)
	}
	if _, err := block.Open(context.Background(), "http://me:secret@ho st/", fast); !errors.Is(err, errs.ErrUsage) || strings.Contains(err.Error(), "secret") {
		t.Errorf("Open of a bad URL = %v, want ErrUsage without the password", err)
	}
}

// answer makes a hook that sends a status and headers for each request.
func answer(code int, body string, headers ...string) func(int, http.ResponseWriter, *http.Request) bool {
	return func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		io.WriteString(w, body)
		return true
	}
}

func TestHTTPOpenRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		hook func(int, http.ResponseWriter, *http.Request) bool
		want error
		text string
	}{
		"ranges ignored":       {answer(200, "data"), errs.ErrUnsupported, "range requests"},
		"no Content-Range":     {answer(206, "data"), errs.ErrUnsupported, "Content-Range"},
		"size unknown":         {answer(206, "data", "Content-Range", "bytes 0-3/*"), errs.ErrUnsupported, "Content-Range"},
		"other unit":           {answer(206, "data", "Content-Range", "rows 0-3/4"), errs.ErrUnsupported, "Content-Range"},
		"signs":                {answer(206, "data", "Content-Range", "bytes +0-3/4"), errs.ErrUnsupported, "Content-Range"},
		"huge numbers":         {answer(206, "data", "Content-Range", "bytes 0-3/99999999999999999999"), errs.ErrUnsupported, "Content-Range"},
		"another range":        {answer(206, "data", "Content-Range", "bytes 4-7/8"), errs.ErrIO, "another range"},
		"backward range":       {answer(206, "", "Content-Range", "bytes 0--1/8"), errs.ErrUnsupported, "Content-Range"},
		"more than asked":      {answer(206, "data", "Content-Range", "bytes 0-99999999/999999999"), errs.ErrIO, "another range"},
		"past the end":         {answer(206, "data", "Content-Range", "bytes 0-3/2"), errs.ErrIO, "another range"},
		"body of other length": {answer(206, "data!", "Content-Range", "bytes 0-3/4"), errs.ErrIO, "another range"},
		"packed":               {answer(206, "data", "Content-Range", "bytes 0-3/4", "Content-Encoding", "gzip"), errs.ErrUnsupported, "Content-Encoding"},
		"416":                  {answer(416, "", "Content-Range", "bytes */100"), errs.ErrIO, "416"},
		"404":                  {answer(404, ""), fs.ErrNotExist, "404"},
		"403":                  {answer(403, ""), fs.ErrPermission, "403"},
		"400":                  {answer(400, ""), errs.ErrIO, "400"},
		"304":                  {answer(304, ""), errs.ErrIO, "304"},
		"500 for ever":         {answer(500, ""), errs.ErrIO, "500"},
		"redirect to itself": {func(_ int, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, r.URL.String(), http.StatusFound)
			return true
		}, errs.ErrIO, "redirect"},
	} {
		s := newSite(t, nil)
		s.hook = tt.hook
		r, err := block.Open(context.Background(), s.URL, fast)
		if r != nil || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: Open = %v, %v, want nil, %v with %q", name, r, err, tt.want, tt.text)
		}
		if n := s.count(); n > 12 {
			t.Errorf("%s: %d requests, want a dozen at most", name, n)
		}
	}
}

func TestHTTPNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	if _, err := block.Open(context.Background(), "http://"+addr+"/x", block.Options{}); !errors.Is(err, errs.ErrIO) {
		t.Errorf("Open without a server = %v, want ErrIO", err)
	}
}

func TestHTTPRedirect(t *testing.T) {
	want := blocktest.Pattern(200_000)
	s := newSite(t, want)
	from := httptest.NewServer(http.RedirectHandler(s.URL+"/x", http.StatusFound))
	defer from.Close()
	r := mustOpen(t, from.URL, fast)
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("a redirected file reads as %d bytes, %v, want its %d bytes", len(got), err, len(want))
	}
}

// A server that cuts each response off after some bytes is read all the same.
func TestHTTPCutOff(t *testing.T) {
	want := blocktest.Pattern(1_000_000)
	s := newSite(t, want)
	s.hook = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		http.ServeContent(&cutWriter{w, 30_000}, r, "", s.modified, bytes.NewReader(want))
		return true
	}
	r := mustOpen(t, s.URL, fast)
	got := make([]byte, len(want))
	if n, err := r.ReadAt(got, 0); n != len(want) || err != nil || !bytes.Equal(got, want) {
		t.Errorf("ReadAt from a server that cuts off = %d, %v, want %d, nil and the right bytes", n, err, len(want))
	}
	// One that cuts off at once gives an error, with the place.
	s.set(func() {
		s.hook = func(_ int, w http.ResponseWriter, r *http.Request) bool {
			http.ServeContent(&cutWriter{w, 100}, r, "", s.modified, bytes.NewReader(want))
			return true
		}
		s.requests = nil
	})
	r2, err := block.Open(context.Background(), s.URL, fast)
	var e *errs.Error
	if r2 != nil || !errors.Is(err, errs.ErrIO) || !errors.As(err, &e) || e.Sector < 0 {
		t.Errorf("Open with responses of 100 bytes = %v, %v, want ErrIO with the sector", r2, err)
	}
	if n := s.count(); n != 5 {
		t.Errorf("%d requests without progress, want 5", n)
	}
}

// cutWriter breaks the connection after n bytes of the body.
type cutWriter struct {
	http.ResponseWriter
	n int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	k, _ := c.ResponseWriter.Write(p[:min(len(p), c.n)])
	if c.n -= k; c.n == 0 {
		panic(http.ErrAbortHandler)
	}
	return k, nil
}

// A server that gives less than was asked for, and says so.
func TestHTTPShortRanges(t *testing.T) {
	want := blocktest.Pattern(500_000)
	s := newSite(t, want)
	s.hook = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		var from, to int
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to)
		to = min(to+1, from+10_000, len(want))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(want)))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(want[from:to])
		return true
	}
	r := mustOpen(t, s.URL, fast)
	got := make([]byte, len(want))
	if n, err := r.ReadAt(got, 0); n != len(want) || err != nil || !bytes.Equal(got, want) {
		t.Errorf("ReadAt from a server of short ranges = %d, %v, want %d, nil and the right bytes", n, err, len(want))
	}
}

func TestHTTPRetries(t *testing.T) {
	want := blocktest.Pattern(500_000)
	for _, code := range []int{500, 502, 503, 429, 408} {
		s := newSite(t, want)
		s.hook = func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n%2 == 1 {
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(code)
			}
			return n%2 == 1
		}
		r := mustOpen(t, s.URL, fast)
		got := make([]byte, len(want))
		if n, err := r.ReadAt(got, 0); n != len(want) || err != nil || !bytes.Equal(got, want) {
			t.Errorf("ReadAt with a %d before each answer = %d, %v, want %d, nil and the right bytes", code, n, err, len(want))
		}
	}
}

func TestHTTPFileChanges(t *testing.T) {
	old := blocktest.Pattern(500_000)
	changed := bytes.Repeat([]byte{9}, 500_000)
	for name, change := range map[string]func(*site){
		"ETag":          func(s *site) { s.data, s.etag = changed, `"two"` },
		"Last-Modified": func(s *site) { s.data, s.modified = changed, s.modified.Add(time.Second) },
		"longer":        func(s *site) { s.data = append(changed, 1) },
		"shorter":       func(s *site) { s.data = changed[:400_000] },
		"gone short":    func(s *site) { s.data = changed[:10] },
		"no ranges any more": func(s *site) {
			s.hook = func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.Write(changed); return true }
		},
	} {
		s := newSite(t, old)
		r := mustOpen(t, s.URL, fast)
		s.set(func() { change(s) })
		got := make([]byte, 1000)
		n, err := r.ReadAt(got, 300_000)
		if n != 0 || !errors.Is(err, errs.ErrIO) && !errors.Is(err, errs.ErrUnsupported) {
			t.Errorf("%s: ReadAt after the change = %d, %v, want 0 and an error", name, n, err)
		}
		if !bytes.Equal(got, make([]byte, 1000)) {
			t.Errorf("%s: ReadAt delivered bytes of the other file", name)
		}
	}
}

func TestHTTPCachesAndCoalesces(t *testing.T) {
	want := blocktest.Pattern(8 << 20)
	s := newSite(t, want)
	r := mustOpen(t, s.URL, fast)
	if n := s.count(); n != 1 {
		t.Errorf("Open made %d requests, want 1", n)
	}
	buf := make([]byte, 4096)
	// The first page came with the opening; a btree node is one request.
	r.ReadAt(buf, 4096)
	r.ReadAt(make([]byte, 256<<10), 2<<20)
	r.ReadAt(buf, 2<<20+100_000)
	if n := s.count(); n != 2 {
		t.Errorf("%d requests after reading a cached page and one node, want 2", n)
	}
	s.mu.Lock()
	if got := s.requests[1]; got != "bytes=2097152-2359295" {
		t.Errorf("request = %q, want bytes=2097152-2359295", got)
	}
	s.requests = nil
	s.mu.Unlock()
	// Reading all in small pieces takes longer and longer requests.
	r = mustOpen(t, s.URL, fast)
	for off := int64(0); off < int64(len(want)); off += int64(len(buf)) {
		if _, err := r.ReadAt(buf, off); err != nil || !bytes.Equal(buf, want[off:off+4096]) {
			t.Fatalf("ReadAt(%d) = %v", off, err)
		}
	}
	if n := s.count(); n > 15 {
		t.Errorf("%d requests to read 8 MiB in order, want 15 at most", n)
	}
}

// Many readers of one page make one request.
func TestHTTPDedup(t *testing.T) {
	want := blocktest.Pattern(1 << 20)
	s := newSite(t, want)
	r := mustOpen(t, s.URL, fast)
	hold := make(chan struct{})
	var held atomic.Int32
	s.set(func() {
		s.hook = func(int, http.ResponseWriter, *http.Request) bool {
			held.Add(1)
			<-hold
			return false
		}
	})
	var wg sync.WaitGroup
	var started atomic.Int32
	for range 20 {
		wg.Go(func() {
			buf := make([]byte, 100)
			if started.Add(1) == 20 {
				close(hold)
			}
			if n, err := r.ReadAt(buf, 700_000); n != 100 || err != nil || !bytes.Equal(buf, want[700_000:700_100]) {
				t.Errorf("ReadAt = %d, %v, want 100, nil and the right bytes", n, err)
			}
		})
	}
	wg.Wait()
	if n := held.Load(); n != 1 {
		t.Errorf("20 readers made %d requests, want 1", n)
	}
}

func TestHTTPCacheIsBounded(t *testing.T) {
	want := make([]byte, 40<<20)
	for i := range want {
		want[i] = byte(i >> 12)
	}
	s := newSite(t, want)
	r := mustOpen(t, s.URL, fast)
	got := make([]byte, len(want))
	if n, err := r.ReadAt(got, 0); n != len(want) || err != nil || !bytes.Equal(got, want) {
		t.Fatalf("ReadAt of all = %d, %v, want %d, nil and the right bytes", n, err, len(want))
	}
	before := s.count()
	r.ReadAt(got[:100], 39<<20)
	if n := s.count() - before; n != 0 {
		t.Errorf("reading what was read last made %d requests, want 0", n)
	}
	r.ReadAt(got[:100], 1<<20)
	if n := s.count() - before; n != 1 {
		t.Errorf("reading what 32 MiB have pushed out made %d requests, want 1", n)
	}
}

func TestHTTPContextAndClose(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	s := newSite(t, make([]byte, 1<<20))
	entered := make(chan struct{}, 10)
	stuck := func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		entered <- struct{}{}
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	// A stuck server, and a caller who gives up.
	s.hook = stuck
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-entered; cancel() }()
	if _, err := block.Open(ctx, s.URL, fast); !errors.Is(err, context.Canceled) {
		t.Errorf("Open that is canceled = %v, want context.Canceled", err)
	}
	// The context of Open does not bound the reader's life.
	s.set(func() { s.hook = nil })
	ctx, cancel = context.WithCancel(context.Background())
	r, err := block.Open(ctx, s.URL, fast)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := r.ReadAt(make([]byte, 10), 300_000); err != nil {
		t.Errorf("ReadAt after the context of Open ended = %v, want nil", err)
	}
	// Close ends a read that waits.
	s.set(func() { s.hook = stuck })
	go func() { <-entered; r.Close() }()
	if n, err := r.ReadAt(make([]byte, 10), 600_000); n != 0 || !errors.Is(err, fs.ErrClosed) {
		t.Errorf("ReadAt beside Close = %d, %v, want 0, ErrClosed", n, err)
	}
	// A request that takes too long is tried again.
	s.set(func() {
		s.hook = func(n int, w http.ResponseWriter, r *http.Request) bool {
			return n == 1 && stuck(n, w, r)
		}
		s.requests = nil
	})
	opts := fast
	opts.HTTPTimeout = 100 * time.Millisecond
	r, err = block.Open(context.Background(), s.URL, opts)
	if err != nil {
		t.Fatalf("Open with a server stuck once = %v, want nil", err)
	}
	r.Close()
	s.Close()
	goleak.VerifyNone(t, ignore)
}
