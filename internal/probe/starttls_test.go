package probe

import (
	"crypto/tls"
	"io"
	"net"
	"testing"

	"vedette/internal/uptime"
)

// ldapConsent is the answer of OpenLDAP, ldapLong the same as Active Directory writes
// its lengths, ldapNo a refusal (result 2, protocolError).
const (
	ldapConsent = "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"
	ldapLong    = "\x30\x84\x00\x00\x00\x10\x02\x01\x01\x78\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00"
	ldapNo      = "\x30\x0e\x02\x01\x01\x78\x09\x0a\x01\x02\x04\x00\x04\x02no"
)

const (
	xmppHead = `<?xml version='1.0'?><stream:stream from='127.0.0.1' version='1.0' xmlns='jabber:client' xmlns:stream='` + xmppStreams + `'>`
	xmppWith = xmppHead + `<stream:features><starttls xmlns='` + xmppTLS + `'><required/></starttls><mechanisms xmlns='urn:x'><mechanism>PLAIN</mechanism></mechanisms></stream:features>`
	xmppGo   = `<proceed xmlns='` + xmppTLS + `'/>`
)

// upgrades is a server that reads as many bytes as each request has, answers, and goes
// on in TLS after the last answer.
func upgrades(requests []int, answers ...string) func(*testing.T) string {
	return talker(func(c net.Conn) {
		for i, n := range requests {
			if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
				return
			}
			_, _ = io.WriteString(c, answers[i])
		}
		cert, _, _ := talkCert()
		_, _ = io.Copy(io.Discard, tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}}))
	})
}

func talkLDAP(t *testing.T) string { return upgrades([]int{len(ldapStartTLS)}, ldapConsent)(t) }

// xmppOpen is how long our opening is for a target of 127.0.0.1.
var (
	xmppOpen  = len(`<?xml version='1.0'?><stream:stream to='127.0.0.1' version='1.0' xml:lang='en' xmlns='jabber:client' xmlns:stream='` + xmppStreams + `'>`)
	xmppStart = len(`<starttls xmlns='` + xmppTLS + `'/>`)
)

// The servers here are scripts: each dialogue is that of its standard, and the real
// servers stand in the tests of the types of their own.
func TestSTARTTLSDialogues(t *testing.T) {
	t.Parallel()
	up, down := uptime.VerdictUp, uptime.VerdictDown
	in := func(protocol string) string {
		return talkTrusts(`,"security":"starttls","starttls_protocol":"` + protocol + `"`)
	}
	one := func(n int, answer string) func(*testing.T) string { return upgrades([]int{n}, answer) }
	talkCases(t, "tcp", map[string]talkCase{
		"smtp goes on in TLS":               {server: talkScript("S: 220-hi", "S: 220 ready", "C: EHLO [127.0.0.1]", "S: 250-me", "S: 250 STARTTLS", "C: STARTTLS", "S: 220 go", "tls", "hang"), config: in("smtp"), verdict: up},
		"smtp that knows no EHLO says no":   {server: talkScript("S: 220 ready", "C: EHLO", "S: 502 what?", "C: HELO", "S: 250 me", "C: STARTTLS", "S: 502 what?", "hang"), config: in("smtp"), verdict: down, reason: uptime.TLSHandshake},
		"smtp offers no TLS":                {server: talkScript("S: 220 ready", "C: EHLO", "S: 250 me", "C: STARTTLS", "S: 454 not now", "hang"), config: in("smtp"), verdict: down, reason: uptime.TLSHandshake},
		"smtp turns everybody away":         {server: talkScript("S: 554 go away", "hang"), config: in("smtp"), verdict: down, reason: uptime.NotReady},
		"smtp with injected text":           {server: talkScript("S: 220 ready", "C: EHLO", "S: 250 me", "C: STARTTLS", "S: 220 go\r\n250 AUTH PLAIN", "tls", "hang"), config: in("smtp"), verdict: down, reason: uptime.Protocol},
		"smtp with two codes in one answer": {server: talkScript("S: 220 ready", "C: EHLO", "S: 250-me\r\n550 no", "hang"), config: in("smtp"), verdict: down, reason: uptime.Protocol},
		"imap goes on in TLS":               {server: talkScript("S: * OK hi", "C: v1 STARTTLS", "S: * CAPABILITY X", "S: v1 OK go", "tls", "hang"), config: in("imap"), verdict: up},
		"imap offers no TLS":                {server: talkScript("S: * OK hi", "C: v1 STARTTLS", "S: v1 BAD what?", "hang"), config: in("imap"), verdict: down, reason: uptime.TLSHandshake},
		"imap that says goodbye":            {server: talkScript("S: * BYE full", "hang"), config: in("imap"), verdict: down, reason: uptime.NotReady},
		"pop3 goes on in TLS":               {server: talkScript("S: +OK hi", "C: STLS", "S: +OK go", "tls", "hang"), config: in("pop3"), verdict: up},
		"pop3 offers no TLS":                {server: talkScript("S: +OK hi", "C: STLS", "S: -ERR what?", "hang"), config: in("pop3"), verdict: down, reason: uptime.TLSHandshake},
		"pop3 that is another protocol":     {server: talkScript("S: 220 hi", "hang"), config: in("pop3"), verdict: down, reason: uptime.Protocol},
		"ftp goes on in TLS":                {server: talkScript("S: 120 soon", "S: 220-hi", "S:  any text", "S: 220 ready", "C: AUTH TLS", "S: 234 go", "tls", "hang"), config: in("ftp"), verdict: up},
		"ftp offers no TLS":                 {server: talkScript("S: 220 hi", "C: AUTH TLS", "S: 530 log in first", "hang"), config: in("ftp"), verdict: down, reason: uptime.TLSHandshake},
		"ldap goes on in TLS":               {server: talkLDAP, config: in("ldap"), verdict: up},
		"ldap with long lengths goes on":    {server: one(len(ldapStartTLS), ldapLong), config: in("ldap"), verdict: up},
		"ldap offers no TLS":                {server: one(len(ldapStartTLS), ldapNo), config: in("ldap"), verdict: down, reason: uptime.TLSHandshake},
		"ldap with injected bytes":          {server: one(len(ldapStartTLS), ldapConsent+"x"), config: in("ldap"), verdict: down, reason: uptime.Protocol},
		"ldap that is HTTP":                 {server: one(len(ldapStartTLS), "HTTP/1.1 400 Bad Request\r\n\r\n"), config: in("ldap"), verdict: down, reason: uptime.Protocol},
		"ldap that closes":                  {server: talker(func(c net.Conn) { _, _ = io.CopyN(io.Discard, c, int64(len(ldapStartTLS))) }), config: in("ldap"), verdict: down, reason: uptime.ConnClosed},
		"postgres goes on in TLS":           {server: one(8, "S"), config: in("postgres"), verdict: up},
		"postgres offers no TLS":            {server: one(8, "N"), config: in("postgres"), verdict: down, reason: uptime.TLSHandshake},
		"postgres with injected bytes":      {server: one(8, "SE"), config: in("postgres"), verdict: down, reason: uptime.Protocol},
		"postgres that is another protocol": {server: one(8, "H"), config: in("postgres"), verdict: down, reason: uptime.Protocol},
		"postgres that is silent":           {server: talkSilent, config: in("postgres"), timeout: short, verdict: down, reason: uptime.Timeout},
		"xmpp goes on in TLS":               {server: upgrades([]int{xmppOpen, xmppStart}, xmppWith, xmppGo), config: in("xmpp"), verdict: up},
		"xmpp offers no TLS":                {server: upgrades([]int{xmppOpen}, xmppHead+`<stream:features/>`), config: in("xmpp"), verdict: down, reason: uptime.TLSHandshake},
		"xmpp that fails":                   {server: upgrades([]int{xmppOpen, xmppStart}, xmppWith, `<failure xmlns='`+xmppTLS+`'/>`), config: in("xmpp"), verdict: down, reason: uptime.TLSHandshake},
		"xmpp with injected text":           {server: upgrades([]int{xmppOpen, xmppStart}, xmppWith, xmppGo+"<x/>"), config: in("xmpp"), verdict: down, reason: uptime.Protocol},
		"xmpp that knows no such host":      {server: upgrades([]int{xmppOpen}, xmppHead+`<stream:error><host-unknown/></stream:error>`), config: in("xmpp"), verdict: down, reason: uptime.Protocol},
		"xmpp that is another protocol":     {server: talkSays("220 ready\r\n"), config: in("xmpp"), timeout: short, verdict: down, reason: uptime.Timeout},
		"xmpp that never ends":              {server: talkEndless("<a>"), config: in("xmpp"), verdict: down, reason: uptime.Protocol},
		"xmpp that closes in the middle":    {server: talker(func(c net.Conn) { _, _ = io.CopyN(io.Discard, c, int64(xmppOpen)); _, _ = io.WriteString(c, xmppHead) }), config: in("xmpp"), verdict: down, reason: uptime.ConnClosed},
		"an endless line":                   {server: talkEndless("220 "), config: in("smtp"), verdict: down, reason: uptime.Protocol},
		"lines without end":                 {server: talkEndless("220-x\r\n"), config: in("smtp"), verdict: down, reason: uptime.Protocol},
		"silence where a greeting is due":   {server: talkSilent, config: in("imap"), timeout: short, verdict: down, reason: uptime.Timeout},
		"a certificate that is not trusted": {server: one(8, "S"), config: `{"security":"starttls","starttls_protocol":"postgres"}`, verdict: down, reason: uptime.TLSSelfSigned},
	})
}
