//go:build unix

package embedded

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxSocketPath is the longest socket path that works everywhere: sun_path has 104 bytes on macOS and 108 on Linux,
// the final NUL included.
const maxSocketPath = 103

// account is the system user that a server runs as.
type account struct {
	name     string
	uid, gid int
	// cred is nil when it is the user we run as already.
	cred *syscall.Credential
}

// attr gives the process attributes for a child of this account: a session of its own, so that Ctrl-C in a terminal
// reaches only us and the server outlives our own graceful stop.
func (a account) attr(onDeath syscall.Signal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true, Credential: a.cred}
	dieWithParent(attr, onDeath)
	return attr
}

// accountFor chooses whom to run as; data is "" for a new cluster. PostgreSQL refuses root, so root becomes the owner
// of the cluster that is there, else postgres, else nobody. Anybody else stays who he is.
func accountFor(data string) (account, error) {
	if uid := os.Geteuid(); uid != 0 {
		// The name is for messages alone, and initdb and postgres themselves tell when there is no passwd entry.
		return account{name: "uid " + strconv.Itoa(uid), uid: uid, gid: os.Getegid()}, nil
	}
	if data == "" {
		return serviceAccount()
	}
	if info, err := os.Lstat(data); err == nil {
		if uid, ok := ownerOf(info); ok && uid != 0 {
			u, err := user.LookupId(strconv.Itoa(uid))
			if err != nil {
				return account{}, fmt.Errorf("%s belongs to uid %d, which PostgreSQL cannot run as: %w", data, uid, err)
			}
			return accountOf(u)
		}
	}
	return serviceAccount()
}

func serviceAccount() (account, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil || u.Uid == "0" {
			continue
		}
		return accountOf(u)
	}
	return account{}, errors.New("PostgreSQL cannot run as root, and this system has neither a user postgres nor nobody: run as an ordinary user")
}

func accountOf(u *user.User) (account, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 31)
	if err != nil {
		return account{}, fmt.Errorf("user %s has uid %q: %w", u.Username, u.Uid, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 31)
	if err != nil {
		return account{}, fmt.Errorf("user %s has gid %q: %w", u.Username, u.Gid, err)
	}
	return account{
		name: u.Username, uid: int(uid), gid: int(gid),
		cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
	}, nil
}

func ownerOf(info fs.FileInfo) (uid int, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// prepareDir makes dir and returns its real path. As root the server's user must be able to pass through it to its
// own directories, hence 0711; lock, owner and log in it stay root's, so that root never writes where that user could
// plant a symlink.
func prepareDir(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("no directory given for the cluster")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the cluster's directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cluster's directory: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", fmt.Errorf("find the cluster's directory: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("look at the cluster's directory: %w", err)
	}
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if uid, ok := ownerOf(info); ok && uid == os.Geteuid() && info.Mode().Perm() != mode {
		if err := os.Chmod(dir, mode); err != nil {
			return "", fmt.Errorf("set the mode of the cluster's directory: %w", err)
		}
	}
	return dir, nil
}

// elsewhere is the file in Options.Dir that names the fallback directory, once one was needed.
const elsewhere = "elsewhere"

// fallbackParents are writable by root alone, or sticky: nobody else can replace what root made there.
var fallbackParents = []string{"/var/lib", "/var/tmp"}

// fallbackPrefix ties a fallback to the path it was made for: a copy of a clone must not share the original's cluster.
func fallbackPrefix(dir string) string { return "ringfence-" + shortHash(dir) + "-" }

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}

// locate returns the directory where the cluster is, or will be when a fallback was made for it that is still empty;
// "" when no place has been chosen yet.
func locate(dir string, log *slog.Logger) (string, error) {
	if _, err := os.Lstat(filepath.Join(dir, "data")); err == nil {
		return dir, nil
	}
	raw, err := os.ReadFile(filepath.Join(dir, elsewhere))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("find out where the cluster is: %w", err)
	}
	home := strings.TrimSpace(string(raw))
	for _, parent := range fallbackParents {
		if !strings.HasPrefix(home, filepath.Join(parent, fallbackPrefix(dir))) || filepath.Dir(home) != parent {
			continue
		}
		info, err := os.Lstat(home)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("look at the fallback directory: %w", err)
		}
		if uid, ok := ownerOf(info); !ok || uid != os.Geteuid() || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
			return "", fmt.Errorf("%s should be a directory that only its owner, uid %d, can write to; it is not, so it is not used", home, os.Geteuid())
		}
		return home, nil
	}
	log.Warn("this directory was moved or copied: the cluster of its former place is not used", "dir", dir, "former", home)
	return "", nil
}

// choosePlace returns the directory for a new cluster: dir, or a fallback when the server's user cannot enter dir.
func choosePlace(ctx context.Context, dir, bin string, as account, log *slog.Logger) (string, error) {
	can, err := canEnter(ctx, dir, bin, as)
	if err != nil {
		return "", err
	}
	if can {
		return dir, nil
	}
	var last error
	for _, parent := range fallbackParents {
		home, err := os.MkdirTemp(parent, fallbackPrefix(dir))
		if err != nil {
			last = err
			continue
		}
		if err := os.Chmod(home, 0o711); err != nil {
			return "", fmt.Errorf("open the fallback directory to the server's user: %w", err)
		}
		if err := writeFile(filepath.Join(dir, elsewhere), home+"\n"); err != nil {
			return "", fmt.Errorf("remember the fallback directory: %w", err)
		}
		log.Warn("PostgreSQL's user cannot enter the data directory: the cluster goes to a fallback directory",
			"user", as.name, "dir", dir, "fallback", home)
		return home, nil
	}
	return "", fmt.Errorf("user %s cannot enter %s, and no fallback directory could be made: %w", as.name, dir, last)
}

// canEnter tries it: a program started as that user in that directory answers for modes, groups and ACLs alike.
func canEnter(ctx context.Context, dir, bin string, as account) (bool, error) {
	if as.cred == nil {
		return true, nil // we are that user, and are in it already
	}
	try := func(where string) error {
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version")
		cmd.Dir = where
		cmd.SysProcAttr = as.attr(syscall.SIGKILL)
		return run(cmd)
	}
	err := try(dir)
	if errors.Is(err, fs.ErrPermission) {
		// The directory, or the program itself?
		if err := try("/"); err != nil {
			return false, fmt.Errorf("run %s/postgres as user %s: %w", bin, as.name, err)
		}
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("enter %s as user %s: %w", dir, as.name, err)
	}
	return true, nil
}

// socketDir makes the directory for the socket: in home, or a short one when the socket's path would be too long.
func socketDir(home string, as account) (string, error) {
	dir := filepath.Join(home, "socket")
	if !socketFits(dir) {
		dir = filepath.Join(shortParent(), "ringfence-"+strconv.Itoa(as.uid)+"-"+shortHash(home))
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make the socket directory: %w", err)
	}
	if err := ownPrivately(dir, as); err != nil {
		return "", err
	}
	return dir, nil
}

func socketFits(dir string) bool {
	return len(filepath.Join(dir, ".s.PGSQL."+port)) <= maxSocketPath
}

// shortParent is where short-lived sockets of this user may go. TMPDIR is not used: on macOS it is long itself.
func shortParent() string {
	if os.Geteuid() == 0 {
		if info, err := os.Stat("/run"); err == nil && info.IsDir() {
			return "/run"
		}
		return "/tmp"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) && len(dir) < 50 {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	return "/tmp"
}

// ownPrivately gives dir to the server's user with mode 0700, after checking that it is a real directory that nobody
// else could have put there. It works on the open directory, so that it cannot be exchanged between check and change.
func ownPrivately(dir string, as account) error {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("open directory: %w", err)
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	uid, ok := ownerOf(info)
	if !ok || (uid != as.uid && uid != os.Geteuid()) {
		return fmt.Errorf("%s belongs to uid %d, not to %s: it is not used", dir, uid, as.name)
	}
	if uid != as.uid {
		if err := f.Chown(as.uid, as.gid); err != nil {
			return fmt.Errorf("give %s to %s: %w", dir, as.name, err)
		}
	}
	if info.Mode().Perm() != 0o700 {
		if err := f.Chmod(0o700); err != nil {
			return fmt.Errorf("close %s to others: %w", dir, err)
		}
	}
	return nil
}

// adoptOwnership gives a cluster that root owns, such as one copied by root, to the server's user.
func adoptOwnership(data string, as account) error {
	info, err := os.Lstat(data)
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	if uid, ok := ownerOf(info); as.cred == nil || !ok || uid != 0 {
		return nil
	}
	// The top goes last: when this is cut short, the next start sees root's directory and does it again.
	root, err := os.OpenRoot(data)
	if err != nil {
		return fmt.Errorf("open the data directory: %w", err)
	}
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		return root.Lchown(path, as.uid, as.gid)
	})
	if err == nil {
		err = os.Lchown(data, as.uid, as.gid)
	}
	if err := errors.Join(err, root.Close()); err != nil {
		return fmt.Errorf("give the data directory to %s: %w", as.name, err)
	}
	return nil
}

// writeFile replaces a small file of ours. O_NOFOLLOW: root may be writing into a directory of somebody else.
func writeFile(path, content string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open file: %w", err)
	}
	_, err = f.WriteString(content)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}
