package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "rewrite golden files")

const optionsHead = `# Options

Each can be a flag, an environment variable or a key of the file that ` + "`--config FILE`" + ` (or ` + "`VEDETTE_CONFIG`" + `) names: YAML, keyed
like the flags without the dashes. Flags go before the environment, which goes before the file. An unknown key or a combination that
cannot work is refused at start with the mend. Made from ` + "`internal/config`" + ` by ` + "`make golden`" + `.
`

// TestDocsOfOptionsAreTheGolden makes docs/options.md from the one table of options.
func TestDocsOfOptionsAreTheGolden(t *testing.T) {
	t.Parallel()
	var cli struct {
		Serve  Serve        `cmd:"" name:"serve"`
		Check  Check        `cmd:"" name:"check"`
		User   UserCreate   `cmd:"" name:"user create"`
		APIKey APIKeyCreate `cmd:"" name:"api-key create"`
	}
	p, err := kong.New(&cli)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(optionsHead)
	for _, cmd := range p.Model.Children {
		fmt.Fprintf(&b, "\n## vedette %s\n\n| flag | environment | default | meaning |\n|---|---|---|---|\n", cmd.Name)
		for _, f := range cmd.Flags {
			if f.Name == "help" {
				continue
			}
			if f.Help == "" {
				t.Errorf("%s --%s has no help", cmd.Name, f.Name)
			}
			fmt.Fprintf(&b, "| `--%s` | %s | %s | %s |\n", f.Name, code(strings.Join(f.Envs, " ")), code(f.Default), strings.ReplaceAll(f.Help, "|", `\|`))
		}
	}
	b.WriteString("\n`doctor` takes the options of `serve`; `migrate` takes `--data`, `--database`, `--key` and `--key-file`.\n")
	const file = "../../docs/options.md"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || b.String() != string(want) {
		t.Errorf("%s is not what the options say (%v): run make golden and look at git diff", file, err)
	}
}

// code is s in code style, or nothing.
func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
