package service

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"vedette/internal/uptime"
)

// argon2id parameters: the second of the choices in OWASP's password storage
// cheat sheet (19 MiB, two passes, one lane).
const (
	argonMemory = 19 * 1024 // KiB
	argonTime   = 2
	argonLanes  = 1
	argonKey    = 32 // bytes
)

// Lengths of a password in characters. The upper one bounds our work.
const (
	minPassword = 12
	maxPassword = 256
)

// hashPassword makes the PHC string of a password under a fresh salt.
func hashPassword(password string) string {
	salt := make([]byte, 16)
	rand.Read(salt) // never fails, see crypto/rand
	key := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonLanes, argonKey)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

// passwordMatches compares in time that does not depend on the password. A hash
// that cannot be read matches nothing.
func passwordMatches(phc, password string) bool {
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false
	}
	var version, lanes int
	var memory, passes uint32
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return false
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &lanes); err != nil {
		return false
	}
	if memory > 256*1024 || passes == 0 || passes > 16 || lanes < 1 || lanes > 16 {
		return false
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(want) == 0 {
		return false
	}
	got := argon2.IDKey([]byte(password), salt, passes, memory, uint8(lanes), uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1
}

// hash waits for one of the few places where argon2id may take its memory.
func (s *Service) hash(ctx context.Context, password string) (string, error) {
	release, err := s.place(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	return hashPassword(password), nil
}

func (s *Service) matches(ctx context.Context, phc, password string) (bool, error) {
	release, err := s.place(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	return passwordMatches(phc, password), nil
}

func (s *Service) place(ctx context.Context) (release func(), err error) {
	select {
	case s.hashing <- struct{}{}:
		return func() { <-s.hashing }, nil
	case <-ctx.Done():
		return nil, uptime.Errorf(uptime.Unavailable, "too many log-ins at once: %w", context.Cause(ctx))
	}
}

func checkPassword(p *uptime.Problems, path, password string) {
	switch n := utf8.RuneCountInString(password); {
	case n < minPassword:
		p.Add(path, "use %d characters at least", minPassword)
	case n > maxPassword:
		p.Add(path, "use %d characters at most", maxPassword)
	}
}

// randomToken is prefix and 160 random bits in letters that survive any copy.
func randomToken(prefix string) string {
	b := make([]byte, 20)
	rand.Read(b)
	return prefix + base64.RawURLEncoding.EncodeToString(b)
}

// tokenHash is what is kept of a token: it is random, so one SHA-256 is enough.
func tokenHash(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return h[:]
}
