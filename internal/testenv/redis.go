package testenv

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// RedisServer is a private Redis that keeps nothing on disk, so that a restart
// forgets everything, which is the worst that may happen.
type RedisServer struct {
	URL  string
	Addr string
	dir  *folder
	port *Port
	d    *daemon
	c    *redis.Client
}

// StartRedis starts a server in a folder of its own.
func StartRedis() (*RedisServer, error) {
	port, err := Reserve("127.0.0.1", 0)
	if err != nil {
		return nil, err
	}
	dir, err := newFolder("vredis")
	if err != nil {
		return nil, errors.Join(err, port.Close())
	}
	r := &RedisServer{URL: "redis://" + port.Addr + "/0", Addr: port.Addr, dir: dir, port: port}
	r.c = redis.NewClient(&redis.Options{Addr: port.Addr, MaxRetries: -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	if err := r.Start(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Start starts the server after Stop. It returns when it answers.
func (r *RedisServer) Start() error {
	path, err := Require("redis-server", "redis-server")
	if err != nil {
		return err
	}
	cmd := exec.Command(path, "--port", strconv.Itoa(r.port.Number), "--bind", "127.0.0.1", "--dir", r.dir.path,
		"--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction")
	if r.d, err = startDaemon(cmd); err != nil {
		return err
	}
	return r.d.await(startTimeout, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return r.c.Ping(ctx).Err()
	})
}

// Stop kills the server.
func (r *RedisServer) Stop() { r.d.stop(syscall.SIGKILL) }

// Restart loses everything it held.
func (r *RedisServer) Restart() error {
	r.Stop()
	return r.Start()
}

// FlushAll is Redis' command: everything is gone.
func (r *RedisServer) FlushAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := r.c.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// PID is the server's process.
func (r *RedisServer) PID() int { return r.d.cmd.Process.Pid }

// Close stops the server and removes its folder.
func (r *RedisServer) Close() {
	_ = r.c.Close()
	if r.d != nil {
		r.d.stop(syscall.SIGKILL)
	}
	r.dir.remove()
	_ = r.port.Close()
}

// Redis is a server for one test.
func Redis(tb testing.TB) *RedisServer {
	tb.Helper()
	r, err := StartRedis()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(r.Close)
	return r
}
