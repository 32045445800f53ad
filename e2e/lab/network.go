package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// inside marks the process that is in the lab's own network.
const inside = "VEDETTE_LAB_INSIDE"

// The lab's network, all of documentation addresses (RFC 5737, RFC 3849).
const (
	silentNet  = "198.51.100.7" // behind a wire that leads nowhere: no answer
	silentNet6 = "2001:db8:ffff::7"
	goneNet    = "203.0.113.7" // no route leads there
	goneNet6   = "2001:db8:dead::7"
)

// again runs this command in a network and a set of mounts of its own.
func again(ctx context.Context, args []string) (ok bool, err error) {
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), inside+"=1", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	err = cmd.Run()
	if exit, failed := errors.AsType[*exec.ExitError](err); failed && exit.ExitCode() == 1 {
		return false, nil // it said why
	}
	if err != nil {
		return false, fmt.Errorf("a network of its own (run as root, or where namespaces are allowed): %w", err)
	}
	return true, nil
}

// furnish sets the network up: loopback; a way out that leads into nothing, so that
// the product sees a machine with a network; a network without a route; and the
// lab's DNS server as that of the machine.
func furnish() error {
	for _, line := range []string{
		"link set lo up",
		"link add out type veth peer name nowhere", // which takes all and forwards nothing
		"link set out arp off up",
		"link set nowhere arp off up",
		"addr add 192.0.2.1/24 dev out",
		"route add default dev out",
		"route add unreachable 203.0.113.0/24",
		"-6 addr add 2001:db8::1/64 dev out nodad",
		"-6 route add default dev out",
		"-6 route add unreachable 2001:db8:dead::/48",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	dir, err := os.MkdirTemp("", "vedette-lab")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // a mount keeps its file
	conf := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+systemDNS+"\n"), 0o644); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := syscall.Mount(conf, "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("resolv.conf of the lab: %w", err)
	}
	return nil
}
