package cli

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
)

// lineWriter is standard error: messages of many goroutines, a line at a time,
// and below them on a terminal the line that shows progress.
type lineWriter struct {
	w        io.Writer
	terminal bool

	mu     sync.Mutex
	status bool // a status line is on the screen
}

// Write implements io.Writer.
func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	return l.w.Write(p)
}

const clearLine = "\r\x1b[K"

func (l *lineWriter) clear() {
	if l.status {
		_, _ = io.WriteString(l.w, clearLine)
		l.status = false
	}
}

// show replaces the status line; elsewhere than on a terminal it is a line like
// any other.
func (l *lineWriter) show(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.terminal {
		_, _ = io.WriteString(l.w, s+"\n")
		return
	}
	_, _ = io.WriteString(l.w, clearLine+s)
	l.status = true
}

func (l *lineWriter) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
}

// progress counts what a command has done and shows it on standard error, once
// it has been at it for two seconds.
type progress struct {
	files, bytes           atomic.Int64
	totalFiles, totalBytes atomic.Int64 // 0: not known

	what  string
	out   *lineWriter
	start time.Time
	stop  chan struct{}
	gone  sync.WaitGroup
}

// Times of the progress line: when it first shows, and how often it changes on a
// terminal and elsewhere.
const (
	progressAfter    = 2 * time.Second
	progressTerminal = 200 * time.Millisecond
	progressLine     = 10 * time.Second
)

// progressFlag adds --progress to a command.
func progressFlag(cmd *cobra.Command, on *bool) {
	cmd.Flags().BoolVar(on, "progress", false, "show progress even where standard error is no terminal")
}

// startProgress shows progress from now on, if standard error is a terminal or
// always is set. what is the verb: "copied". finish ends it.
func (a *app) startProgress(what string, always bool) *progress {
	p := &progress{what: what, start: time.Now(), stop: make(chan struct{})}
	out, ok := a.Err.(*lineWriter)
	if !ok || !out.terminal && !always {
		return p
	}
	p.out = out
	every := progressLine
	if out.terminal {
		every = progressTerminal
	}
	p.gone.Add(1)
	go p.run(every)
	return p
}

func (p *progress) run(every time.Duration) {
	defer p.gone.Done()
	t := time.NewTimer(progressAfter)
	defer t.Stop()
	for {
		select {
		case <-p.stop:
			p.out.done()
			return
		case <-t.C:
			p.out.show(p.line(time.Since(p.start)))
			t.Reset(every)
		}
	}
}

// finish takes the progress line away.
func (p *progress) finish() {
	close(p.stop)
	p.gone.Wait()
}

// line is what is shown after some time: "copied 12 of 80 files, 1.5G of 8.0G, 210M/s, 31s left".
func (p *progress) line(after time.Duration) string {
	files, bytes := p.files.Load(), p.bytes.Load()
	tf, tb := p.totalFiles.Load(), p.totalBytes.Load()
	rate := float64(bytes) / max(after.Seconds(), 0.001)
	of := func(n string, total int64, t string) string {
		if total > 0 {
			return n + " of " + t
		}
		return n
	}
	s := fmt.Sprintf("%s %s files, %s, %s/s", p.what, of(fmt.Sprint(files), tf, fmt.Sprint(tf)), of(humanSize(uint64(bytes)), tb, humanSize(uint64(tb))), humanSize(uint64(rate)))
	if left := tb - bytes; tb > 0 && rate > 0 {
		s += fmt.Sprintf(", %s left", (time.Duration(float64(max(left, 0))/rate) * time.Second).Round(time.Second))
	}
	return s
}

// humanSize prints bytes as du -h does: three digits at most, rounded up.
func humanSize(n uint64) string {
	if n < 1024 {
		return fmt.Sprint(n)
	}
	const units = "KMGTPE"
	// Rounded up, without overflow: div is at most 2^60.
	ceil := func(div uint64) uint64 { return n/div + min(n%div, 1) }
	div, u := uint64(1024), 0
	for u < len(units)-1 && ceil(div) >= 1024 {
		div *= 1024
		u++
	}
	whole, tenths := n/div, (n%div*10+div-1)/div
	if tenths == 10 {
		whole, tenths = whole+1, 0
	}
	if whole >= 10 {
		return fmt.Sprintf("%d%c", ceil(div), units[u])
	}
	return fmt.Sprintf("%d.%d%c", whole, tenths, units[u])
}
