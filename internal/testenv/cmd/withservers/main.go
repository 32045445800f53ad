// Command withservers runs another command with a real PostgreSQL at hand: it
// installs PostgreSQL and Redis when they are missing, starts one PostgreSQL for
// the whole run, and leaves nothing running. Redis servers are started by the tests
// that use them; they take 30 ms.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"vedette/internal/testenv"
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "withservers:", err)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	if len(args) == 0 {
		return 2, errors.New("name a command to run")
	}
	if _, err := testenv.Require("redis-server", "redis-server"); err != nil {
		return 1, err
	}
	pg, err := testenv.StartPostgres()
	if err != nil {
		return 1, err
	}
	defer pg.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), testenv.AdminURL+"="+pg.URL)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}
