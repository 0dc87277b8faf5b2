package block

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gobcachefs/gobcachefs/errs"
)

// httpReader reads a file on a web server by range requests.
//
//	ReadAt ── pages of 64 KiB ──┬─ cached: LRU of 32 MiB
//	                            ├─ on its way: wait for the request of another reader
//	                            └─ missing: one request for a run of missing pages,
//	                               up to 1 MiB; sequential readers get longer runs
//
// Every response must be of the very file that was opened: the same length,
// ETag and Last-Modified.
type httpReader struct {
	name   string // with the password taken out
	fetch  *fetcher
	size   int64
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	slots  chan struct{} // bounds requests at a time

	mu      sync.Mutex
	cache   pageCache
	flight  map[int64]*run // by page
	lastEnd int64          // page after the last run requested
	ahead   int            // length of the next sequential run, in pages
}

var _ Reader = (*httpReader)(nil)

const (
	httpPage      = 64 << 10
	httpMaxRun    = 16  // pages of one request: 1 MiB
	httpCacheSize = 512 // pages: 32 MiB
	httpRequests  = 4   // at a time
	httpWindow    = httpMaxRun * httpRequests
)

// run is one request for consecutive pages. pages and err are valid once done
// is closed.
type run struct {
	first int64
	n     int
	done  chan struct{}
	data  []byte
	err   error
}

// openHTTP opens a URL. The first request brings the length and, by the way,
// the first page.
func openHTTP(ctx context.Context, name string, opts Options) (Reader, error) {
	u, err := url.Parse(name)
	if err != nil || u.Host == "" {
		// The error of Parse quotes the URL, and a password in it.
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: "URL that cannot be parsed"}
	}
	u.Fragment = ""
	h := &httpReader{name: u.Redacted(), flight: map[int64]*run{}, slots: make(chan struct{}, httpRequests), ahead: 1}
	h.fetch = newFetcher(u.String(), h.name, opts)
	first, err := h.fetch.open(ctx, httpPage)
	if err != nil {
		return nil, err
	}
	h.size = h.fetch.id.size
	if len(first) > 0 {
		h.cache.put(0, first)
	}
	h.lastEnd = 1
	h.ctx, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	packed, err := isZstd(h)
	if err != nil {
		h.Close()
		return nil, err
	}
	if packed {
		defer h.Close()
		spool, err := spoolZstd(ctx, h, opts)
		if err != nil {
			return nil, err
		}
		return unwrap(spool)
	}
	return unwrap(h)
}

// ReadAt implements Reader.
func (h *httpReader) ReadAt(p []byte, off int64) (int, error) {
	if h.ctx.Err() != nil {
		return 0, errClosed(h.name)
	}
	avail, end, done := checkRange(h.name, len(p), off, h.size)
	if done {
		return 0, end
	}
	// A window at a time: a read of gigabytes must not hold gigabytes of pages.
	n := 0
	for n < avail {
		at := off + int64(n)
		k := min(avail-n, int((at/httpPage+httpWindow)*httpPage-at))
		got, err := h.readWindow(p[n:n+k], at)
		n += got
		if err != nil {
			return n, err
		}
	}
	return n, end
}

// readWindow reads a range of at most httpWindow pages: it starts all requests
// that are needed, and then waits for one after the other.
func (h *httpReader) readWindow(p []byte, off int64) (int, error) {
	first, last := off/httpPage, (off+int64(len(p))-1)/httpPage
	type source struct {
		page []byte
		run  *run
	}
	src := make([]source, last-first+1)
	h.mu.Lock()
	for i := range src {
		page := first + int64(i)
		if b := h.cache.get(page); b != nil {
			src[i].page = b
		} else if r := h.flight[page]; r != nil {
			src[i].run = r
		} else {
			src[i].run = h.start(page, last)
		}
	}
	h.mu.Unlock()
	n := 0
	for i, s := range src {
		page := first + int64(i)
		b := s.page
		if s.run != nil {
			select {
			case <-s.run.done:
			case <-h.ctx.Done():
				return n, errClosed(h.name)
			}
			if s.run.err != nil {
				if h.ctx.Err() != nil {
					return n, errClosed(h.name)
				}
				return n, s.run.err
			}
			b = s.run.page(page)
		}
		n += copy(p[n:], b[off+int64(n)-page*httpPage:])
	}
	return n, nil
}

// page returns the bytes of one page of a finished run.
func (r *run) page(page int64) []byte {
	at := int(page-r.first) * httpPage
	return r.data[at:min(at+httpPage, len(r.data)):min(at+httpPage, len(r.data))]
}

// start requests the run of missing pages at page, which the caller needs up
// to last. It goes further where the pages before it were read too, as then
// somebody reads through.
//
// Preconditions: h.mu is held; page is neither cached nor on its way.
func (h *httpReader) start(page, last int64) *run {
	want := last - page + 1
	if page == h.lastEnd {
		h.ahead = min(2*h.ahead, httpMaxRun)
		want = max(want, int64(h.ahead))
	} else {
		h.ahead = 1
	}
	want = min(want, httpMaxRun, (h.size-1)/httpPage+1-page)
	r := &run{first: page, done: make(chan struct{})}
	for int64(r.n) < want && h.flight[page+int64(r.n)] == nil && !h.cache.has(page+int64(r.n)) {
		h.flight[page+int64(r.n)] = r
		r.n++
	}
	h.lastEnd = page + int64(r.n)
	go h.request(r)
	return r
}

// request does the request of a run.
func (h *httpReader) request(r *run) {
	select {
	case h.slots <- struct{}{}:
		off := r.first * httpPage
		r.data, r.err = h.fetch.get(h.ctx, off, int(min(int64(r.n)*httpPage, h.size-off)))
		<-h.slots
	case <-h.ctx.Done():
		r.err = h.ctx.Err()
	}
	h.mu.Lock()
	for i := range int64(r.n) {
		delete(h.flight, r.first+i)
		if r.err == nil {
			// A copy: one page must not keep a whole run in memory.
			h.cache.put(r.first+i, bytes.Clone(r.page(r.first+i)))
		}
	}
	h.mu.Unlock()
	close(r.done)
}

// Size implements Reader.
func (h *httpReader) Size() int64 { return h.size }

// Info implements Reader. The identity is the URL.
func (h *httpReader) Info() Info {
	return Info{Name: h.name, Kind: KindHTTP, LogicalBlock: SectorSize, PhysicalBlock: httpPage, ReadOnly: true, ID: "url:" + h.name}
}

// Close implements Reader: it ends all requests.
func (h *httpReader) Close() error {
	h.cancel()
	h.fetch.close()
	return nil
}

// errRedirect is a redirect that is not followed.
var errRedirect = errors.New("redirect refused")

// defaultClient makes the client of one device.
func defaultClient() *http.Client {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.DisableCompression = true
	tr.MaxIdleConnsPerHost = httpRequests
	tr.MaxResponseHeaderBytes = 64 << 10
	return &http.Client{Transport: tr, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return fmt.Errorf("%w: too many", errRedirect)
		}
		if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
			return fmt.Errorf("%w: from https to %s", errRedirect, req.URL.Scheme)
		}
		return nil
	}}
}

// httpTimeout and httpBackoff are the defaults of Options.
const (
	httpTimeout = 30 * time.Second
	httpBackoff = 200 * time.Millisecond
)
