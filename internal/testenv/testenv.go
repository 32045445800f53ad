// Package testenv gives tests the real thing: PostgreSQL and Redis on private
// folders and ports, an SMTP server that can be told how to answer, and a proxy
// that cuts, delays and swallows. It is imported by tests and benchmarks only.
//
// Nothing is skipped: what is missing is installed from Debian's packages when
// this user may, and otherwise the test fails with the command to run. Every server
// dies with the process that started it, however that ends, and its folder with it.
package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// find is the path of a program, also where Debian keeps servers.
func find(binary string) string {
	if path, err := exec.LookPath(binary); err == nil {
		return path
	}
	matches, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + binary)
	slices.Sort(matches)
	for _, path := range append(matches, "/usr/sbin/"+binary) {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// Require returns the path of a program, installing its Debian package if need be.
func Require(binary, pkg string) (string, error) {
	if path := find(binary); path != "" {
		return path, nil
	}
	install := "apt-get update && apt-get install -y --no-install-recommends " + pkg
	if os.Getuid() != 0 {
		return "", fmt.Errorf("%s is missing; run: sudo sh -c '%s'", binary, install)
	}
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "vedette-apt.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if path := find(binary); path != "" { // another process was quicker
		return path, nil
	}
	cmd := exec.Command("sh", "-c", install)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", install, err, out)
	}
	if path := find(binary); path != "" {
		return path, nil
	}
	return "", fmt.Errorf("%s is not in Debian's package %s", binary, pkg)
}

// Install is Require for tests.
func Install(tb testing.TB, binary, pkg string) string {
	tb.Helper()
	path, err := Require(binary, pkg)
	if err != nil {
		tb.Fatal(err)
	}
	return path
}
