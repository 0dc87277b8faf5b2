package block

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gobcachefs/gobcachefs/errs"
)

// httpTries bounds the requests in a row that bring less than httpProgress bytes.
const httpTries = 5

// httpProgress is what a request must bring for tries to be counted from the
// start again. It bounds the requests for one range altogether.
const httpProgress = 4096

// maxRetryAfter bounds how long a server may ask to wait.
const maxRetryAfter = 10 * time.Second

// fetcher makes the requests for ranges of one URL.
type fetcher struct {
	url     string
	name    string // for messages
	client  *http.Client
	own     bool // client is not the caller's
	timeout time.Duration
	backoff time.Duration
	id      *fileIdentity // nil until the first response
}

// fileIdentity is what tells one state of a file on a server from another.
type fileIdentity struct {
	size               int64
	etag, lastModified string
}

func newFetcher(url, name string, opts Options) *fetcher {
	f := &fetcher{url: url, name: name, client: opts.HTTPClient, timeout: opts.HTTPTimeout, backoff: opts.HTTPBackoff}
	if f.client == nil {
		f.client, f.own = defaultClient(), true
	}
	if f.timeout == 0 {
		f.timeout = httpTimeout
	}
	if f.backoff == 0 {
		f.backoff = httpBackoff
	}
	return f
}

// open makes the first request, for the first n bytes, and remembers which
// file it was. A shorter file gives fewer bytes.
func (f *fetcher) open(ctx context.Context, n int) ([]byte, error) {
	b, err := f.get(ctx, 0, n)
	if err != nil && f.own {
		f.client.CloseIdleConnections()
	}
	return b, err
}

func (f *fetcher) close() {
	if f.own {
		f.client.CloseIdleConnections()
	}
}

// transient marks an error after which trying again makes sense.
type transient struct {
	error
	after time.Duration // the server asked to wait so long
}

func (t transient) Unwrap() error { return t.error }

// get returns the n bytes at off. What arrived before a connection broke is
// kept, and the rest is asked for; tries without progress are few.
func (f *fetcher) get(ctx context.Context, off int64, n int) ([]byte, error) {
	buf := make([]byte, 0, n)
	wait := f.backoff
	for try := 1; ; try++ {
		have := len(buf)
		var err error
		buf, err = f.once(ctx, buf, off)
		if err == nil {
			return buf, nil
		}
		var t transient
		if !errors.As(err, &t) {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if len(buf)-have >= httpProgress {
			try, wait = 1, f.backoff
		}
		if try == httpTries {
			return nil, ioError(f.name, off+int64(len(buf)), fmt.Sprintf("request failed %d times", try), t.error)
		}
		timer := time.NewTimer(max(wait/2+rand.N(wait/2+1), t.after))
		wait *= 2
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

// once asks once for the rest of the range that starts at off, of which buf
// holds the beginning and has the capacity for all. It returns buf with what
// arrived. The first response of all sets f.id, and cuts the range to the file.
func (f *fetcher) once(ctx context.Context, buf []byte, off int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return buf, &errs.Error{Where: where(f.name, -1), Kind: errs.ErrUsage, Reason: "URL that cannot be requested"}
	}
	from, to := off+int64(len(buf)), off+int64(cap(buf)) // bytes from..to-1
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
	req.Header.Set("Accept-Encoding", "identity") // ranges of something packed are not ours
	resp, err := f.client.Do(req)
	if err != nil {
		if f.permanent(err) {
			return buf, ioError(f.name, -1, "server cannot be reached", err)
		}
		return buf, transient{error: err} // a broken connection, a timeout
	}
	defer func() {
		// Read a little to keep the connection, but never a whole file.
		io.CopyN(io.Discard, resp.Body, 4096)
		resp.Body.Close()
	}()
	end, err := f.check(resp, from, to)
	if err != nil || end == from {
		return buf, err
	}
	want := int(end - from)
	have := len(buf)
	k, err := io.ReadFull(resp.Body, buf[have:have+want])
	buf = buf[:have+k]
	if err != nil {
		return buf, transient{error: fmt.Errorf("response ends after %d of %d bytes: %w", k, want, err)}
	}
	if end < to && f.id.size > end {
		return buf, transient{error: fmt.Errorf("response has %d of the %d bytes asked for", want, to-from)}
	}
	return buf, nil
}

// permanent reports whether a request failed in a way that trying again does
// not change.
func (f *fetcher) permanent(err error) bool {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	return errors.Is(err, errRedirect) || errors.As(err, &cert) ||
		errors.As(err, &dns) && dns.IsNotFound ||
		f.id == nil && errors.Is(err, syscall.ECONNREFUSED) // it never answered
}

// check accepts a response for bytes from..to-1, and returns the end of those it
// brings.
func (f *fetcher) check(resp *http.Response, from, to int64) (end int64, err error) {
	w := where(f.name, -1)
	switch c := resp.StatusCode; {
	case c == http.StatusPartialContent:
	case c == http.StatusRequestedRangeNotSatisfiable:
		size, ok := parseUnsatisfied(resp.Header.Get("Content-Range"))
		if f.id == nil && ok && size == 0 {
			f.id = identify(resp, 0) // an empty file
			return from, nil
		}
		if f.id != nil {
			return 0, f.changed(resp, size)
		}
		return 0, ioError(f.name, -1, "server answered "+resp.Status, nil)
	case c == http.StatusOK && f.id == nil && resp.ContentLength == 0:
		f.id = identify(resp, 0) // some servers ignore ranges of an empty file only
		return from, nil
	case c == http.StatusOK:
		if f.id != nil && (resp.ContentLength >= 0 && resp.ContentLength != f.id.size || !f.same(resp, f.id.size)) {
			return 0, f.changed(resp, resp.ContentLength)
		}
		return 0, &errs.Error{Where: w, Kind: errs.ErrUnsupported, Reason: "server does not support range requests",
			Want: "206 Partial Content", Got: resp.Status}
	case c == http.StatusTooManyRequests, c == http.StatusRequestTimeout, c >= 500:
		return 0, transient{error: errors.New("server answered " + resp.Status), after: retryAfter(resp)}
	case c == http.StatusNotFound, c == http.StatusGone:
		return 0, &errs.Error{Where: w, Kind: errs.ErrIO, Reason: "server answered " + resp.Status, Cause: fs.ErrNotExist}
	case c == http.StatusUnauthorized, c == http.StatusForbidden:
		return 0, &errs.Error{Where: w, Kind: errs.ErrIO, Reason: "server answered " + resp.Status, Cause: fs.ErrPermission}
	default:
		return 0, ioError(f.name, -1, "server answered "+resp.Status, nil)
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return 0, &errs.Error{Where: w, Kind: errs.ErrUnsupported, Reason: "server packs its ranges",
			Want: "no Content-Encoding", Got: strconv.Quote(e)}
	}
	cr := resp.Header.Get("Content-Range")
	first, last, size, ok := parseContentRange(cr)
	if !ok {
		return 0, &errs.Error{Where: w, Kind: errs.ErrUnsupported, Reason: "server sent no usable Content-Range",
			Want: fmt.Sprintf("bytes %d-%d/SIZE", from, to-1), Got: strconv.Quote(cr)}
	}
	if f.id != nil && !f.same(resp, size) {
		return 0, f.changed(resp, size)
	}
	if first != from || last < first || last >= to || last >= size ||
		resp.ContentLength >= 0 && resp.ContentLength != last-first+1 {
		return 0, ioError(f.name, from, "server sent another range", fmt.Errorf("asked for bytes %d-%d, got %q with %d bytes", from, to-1, cr, resp.ContentLength))
	}
	if f.id == nil {
		f.id = identify(resp, size)
	}
	return last + 1, nil
}

func identify(resp *http.Response, size int64) *fileIdentity {
	return &fileIdentity{size, resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")}
}

// same reports whether a response is of the file that was opened. A header that
// is missing in one of the two says nothing.
func (f *fetcher) same(resp *http.Response, size int64) bool {
	differ := func(a, b string) bool { return a != "" && b != "" && a != b }
	n := identify(resp, size)
	return n.size == f.id.size && !differ(n.etag, f.id.etag) && !differ(n.lastModified, f.id.lastModified)
}

// changed is the error for a file that is not the one that was opened.
func (f *fetcher) changed(resp *http.Response, size int64) error {
	show := func(i *fileIdentity) string {
		return fmt.Sprintf("%d bytes, ETag %q, Last-Modified %q", i.size, i.etag, i.lastModified)
	}
	return &errs.Error{Where: where(f.name, -1), Kind: errs.ErrIO, Reason: "file on the server changed while it was open",
		Want: show(f.id), Got: show(identify(resp, size))}
}

// parseContentRange reads "bytes first-last/size" (RFC 9110 section 14.4). An
// unknown size ("*") is no use here.
func parseContentRange(s string) (first, last, size int64, ok bool) {
	rng, sz, ok1 := strings.Cut(strings.TrimSpace(cutBytesUnit(s)), "/")
	a, b, ok2 := strings.Cut(rng, "-")
	if !ok1 || !ok2 {
		return 0, 0, 0, false
	}
	first, ok1 = parseDigits(a)
	last, ok2 = parseDigits(b)
	size, ok = parseDigits(sz)
	return first, last, size, ok && ok1 && ok2
}

// parseUnsatisfied reads "bytes */size", which comes with status 416.
func parseUnsatisfied(s string) (size int64, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(cutBytesUnit(s)), "*/")
	if !ok {
		return -1, false
	}
	if size, ok = parseDigits(rest); !ok {
		return -1, false
	}
	return size, true
}

// cutBytesUnit removes the unit, and gives "" for another unit.
func cutBytesUnit(s string) string {
	if len(s) < 6 || !strings.EqualFold(s[:6], "bytes ") {
		return ""
	}
	return s[6:]
}

// parseDigits reads a number without sign.
func parseDigits(s string) (int64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	v, err := strconv.ParseInt(s, 10, 64)
	return v, err == nil
}

// retryAfter is how long the server asked to wait, within reason.
func retryAfter(resp *http.Response) time.Duration {
	v, ok := parseDigits(resp.Header.Get("Retry-After"))
	if !ok {
		return 0
	}
	return time.Duration(min(v, int64(maxRetryAfter/time.Second))) * time.Second
}
