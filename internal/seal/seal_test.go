package seal_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vedette/internal/seal"
)

func newSealer(t *testing.T, fill byte) *seal.Sealer {
	t.Helper()
	s, err := seal.New(bytes.Repeat([]byte{fill}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASealedValueOpensOnlyWhereItBelongs(t *testing.T) {
	t.Parallel()
	s := newSealer(t, 1)
	sealed := s.Seal([]byte("hunter2"), "monitors", "config", 7)
	if strings.Contains(sealed, "hunter2") || sealed == s.Seal([]byte("hunter2"), "monitors", "config", 7) {
		t.Errorf("%q shows its text, or is the same twice", sealed)
	}
	for _, c := range []struct {
		name, sealed, table, column string
		id                          int64
		opens                       bool
	}{
		{"its own place", sealed, "monitors", "config", 7, true},
		{"another row", sealed, "monitors", "config", 8, false},
		{"another table", sealed, "channels", "config", 7, false},
		{"another column", sealed, "monitors", "target", 7, false},
		{"altered", sealed[:len(sealed)-6] + "AAAAAA", "monitors", "config", 7, false},
		{"cut", sealed[:12], "monitors", "config", 7, false},
		{"never sealed", "hunter2", "monitors", "config", 7, false},
		{"empty", "", "monitors", "config", 7, false},
	} {
		plain, err := s.Open(c.sealed, c.table, c.column, c.id)
		if (err == nil) != c.opens || (c.opens && string(plain) != "hunter2") {
			t.Errorf("%s: got %q, %v", c.name, plain, err)
		}
	}
}

func TestAnotherKeyIsNamedAsTheCause(t *testing.T) {
	t.Parallel()
	sealed := newSealer(t, 1).Seal([]byte("x"), "t", "c", 1)
	if _, err := newSealer(t, 2).Open(sealed, "t", "c", 1); !errors.Is(err, seal.ErrKey) {
		t.Errorf("got %v, want ErrKey", err)
	}
}

func TestAKeyOfTheWrongLengthIsRefused(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := seal.New(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes was taken", n)
		}
	}
}

func TestProcessesThatBeginAtOnceMakeOneKey(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	keys := make([][]byte, 20)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = seal.LoadOrCreateKey(file); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, k := range keys {
		if len(k) != seal.KeySize || !bytes.Equal(k, keys[0]) {
			t.Fatalf("process %d has another key", i)
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %o, want 600", info.Mode().Perm())
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("got %d files beside the key, %v, want none", len(left)-1, err)
	}
}

func TestADamagedKeyFileIsAnErrorAndStays(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("not a key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.LoadOrCreateKey(file); err == nil {
		t.Error("a damaged key was taken")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "not a key\n" {
		t.Errorf("the file was changed to %q, %v", b, err)
	}
}
