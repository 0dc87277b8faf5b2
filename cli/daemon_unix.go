//go:build unix

package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/syslog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Go cannot fork. The process that the user started runs the program again, in a
// session of its own, with two pipes, and waits for the mount. Secrets go through
// the pipes, never by arguments or environment.

// Descriptors of the child's ends.
const (
	newsFD   = 3 // the child writes
	answerFD = 4 // and reads
)

// news is a line that the child writes.
type news struct {
	Ask   string `json:"ask,omitempty"` // uuid of the volume that needs a passphrase
	Ready bool   `json:"ready,omitempty"`
	Error string `json:"error,omitempty"`
	Code  int    `json:"code,omitempty"` // of Error
}

// answer is a line that the parent writes after an Ask.
type answer struct {
	Passphrase []byte `json:"passphrase"`
	Again      bool   `json:"again"` // asking again makes sense
	Error      string `json:"error,omitempty"`
}

// program is what to run for this program again.
func program() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil // also if the file was replaced or removed
	}
	return os.Executable()
}

// start starts the daemon and waits until it serves the mount, or does not.
func (m *mountCmd) start() error {
	newsR, newsW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoProcess, err)
	}
	defer newsR.Close()
	answerR, answerW, err := os.Pipe()
	if err != nil {
		newsW.Close()
		return fmt.Errorf("%w: %w", errNoProcess, err)
	}
	defer answerW.Close()
	errR, errW, err := os.Pipe()
	if err != nil {
		newsW.Close()
		answerR.Close()
		return fmt.Errorf("%w: %w", errNoProcess, err)
	}
	defer errR.Close()

	exe, err := program()
	if err == nil {
		cmd := exec.Command(exe, m.childArgs()...)
		cmd.Args[0] = "gobcachefs"
		cmd.Stderr = errW
		cmd.ExtraFiles = []*os.File{newsW, answerR}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err = cmd.Start(); err == nil {
			newsW.Close()
			answerR.Close()
			errW.Close()
			return m.wait(cmd, newsR, answerW, errR)
		}
	}
	newsW.Close()
	answerR.Close()
	errW.Close()
	return fmt.Errorf("%w: %w", errNoProcess, err)
}

// childArgs is the command line of the daemon. It is what ps shows.
func (m *mountCmd) childArgs() []string {
	args := []string{"mount", "--daemon-child"}
	for _, o := range m.f.options {
		args = append(args, "-o", o)
	}
	if m.verbose {
		args = append(args, "-v")
	}
	if m.keyMode == "wait" {
		args = append(args, "-k", m.keyMode)
	}
	if m.f.overlay != "" {
		args = append(args, "--overlay="+m.f.overlay)
	}
	for _, d := range m.f.devices {
		args = append(args, "--device="+d)
	}
	args = append(args, "--")
	if len(m.f.devices) == 0 {
		args = append(args, m.spec...)
	}
	return append(args, m.dir)
}

// wait answers the child until it has mounted or failed.
func (m *mountCmd) wait(cmd *exec.Cmd, newsR io.Reader, answers io.Writer, errR io.Reader) error {
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		_, _ = io.Copy(m.a.Err, errR) // until the child lets go of it
	}()
	lines := make(chan news)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(newsR); sc.Scan(); {
			var n news
			if json.Unmarshal(sc.Bytes(), &n) != nil {
				return
			}
			select {
			case lines <- n:
			case <-stop:
				return
			}
		}
	}()
	for {
		select {
		case <-m.a.ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
			return &exitError{ExitInterrupted, errors.New("interrupted")}
		case n, ok := <-lines:
			switch {
			case !ok:
				err := cmd.Wait()
				<-printed
				return fmt.Errorf("%w: %v", errDaemonDied, err)
			case n.Ask != "":
				m.answer(answers, n.Ask)
			case n.Error != "":
				_ = cmd.Wait()
				<-printed
				return &exitError{n.Code, errors.New(n.Error)}
			case n.Ready:
				<-printed
				return cmd.Process.Release()
			}
		}
	}
}

// answer gives the child the passphrase. A child that is gone shows by its news.
func (m *mountCmd) answer(w io.Writer, uuid string) {
	p, again, err := noLink{m}.passphrase(uuid)
	a := answer{Passphrase: p, Again: again}
	if err != nil {
		a.Error = err.Error()
	}
	_ = json.NewEncoder(w).Encode(a)
}

// parent is the child's link to the process that started it.
type parent struct {
	news    *os.File
	answers *bufio.Reader
	log     daemonLog
}

// daemonLog is where a daemon's messages go: first to who started it, later to
// the system's log. Safe for concurrent use.
type daemonLog struct {
	mu sync.Mutex
	to io.Writer
}

func (l *daemonLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(b)
}

// daemon is the child: it serves, and tells its parent how that went.
func (m *mountCmd) daemon() error {
	if !isPipe(newsFD, unix.O_WRONLY) || !isPipe(answerFD, unix.O_RDONLY) {
		return usageErr("--daemon-child: not for users")
	}
	unix.CloseOnExec(newsFD)
	unix.CloseOnExec(answerFD)
	p := &parent{news: os.NewFile(newsFD, "news"), answers: bufio.NewReader(os.NewFile(answerFD, "answers"))}
	p.log.to = m.a.Err
	m.a.Err = &p.log
	err := m.serve(p)
	if err != nil {
		n := news{Error: errText(err), Code: ExitFailed}
		var ee *exitError
		if errors.As(err, &ee) {
			n.Code = ee.code
		} else if errors.Is(err, errs.ErrUsage) {
			n.Code = ExitUsage
		}
		_ = p.tell(n) // in vain if the mount was up
	}
	return &exitError{code: ExitOK}
}

// isPipe: the descriptor is an end of a pipe, for reading or writing as mode says.
func isPipe(fd, mode int) bool {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return false
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE == mode
}

func (p *parent) tell(n news) error { return json.NewEncoder(p.news).Encode(n) }

func (p *parent) passphrase(uuid string) ([]byte, bool, error) {
	if err := p.tell(news{Ask: uuid}); err != nil {
		return nil, false, err
	}
	line, err := p.answers.ReadBytes('\n')
	if err != nil {
		return nil, false, err
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return nil, false, err
	}
	if a.Error != "" {
		return nil, false, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrLocked, Reason: a.Error}
	}
	return a.Passphrase, a.Again, nil
}

// ready lets go of everything of the parent: the terminal, the folder, and at
// last its attention. What is to be said from here on goes to the system's log.
func (p *parent) ready() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	p.log.detach()
	_ = os.Chdir("/")
	for fd := range 3 {
		if err := dup2(int(null.Fd()), fd); err != nil {
			return err
		}
	}
	err = p.tell(news{Ready: true})
	_ = p.news.Close()
	return err
}

// detach sends what is still to be said to the system's log, if there is one.
func (l *daemonLog) detach() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = io.Discard
	if w, err := syslog.New(syslog.LOG_WARNING|syslog.LOG_DAEMON, "gobcachefs"); err == nil {
		l.to = systemLog{w}
	}
}

type systemLog struct{ w io.Writer }

func (l systemLog) Write(b []byte) (int, error) {
	_, _ = l.w.Write(bytes.TrimPrefix(b, []byte("gobcachefs: "))) // a log that is gone is no reason to fail
	return len(b), nil
}
