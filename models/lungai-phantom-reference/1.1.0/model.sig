{
  "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
  "verificationMaterial": {
    "publicKey": {
      "hint": "7928f3973ec4c445881bcbfd086d78a92639f3270afb3b6c2494bf6d1ccd8db5"
    },
    "tlogEntries": []
  },
  "dsseEnvelope": {
    "payload": "eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCJzdWJqZWN0IjpbeyJuYW1lIjoibHVuZ2FpLXBoYW50b20tcmVmZXJlbmNlLzEuMS4wIiwiZGlnZXN0Ijp7InNoYTI1NiI6Ijc5YTU4ZTRlODczMWY2MTU4NjE0NDViM2Y5ZDY1ZGQwNmY0MWJkZDA1ZjJkYThiY2E2YmM1NjllYTI5N2RhYWIifX1dLCJwcmVkaWNhdGVUeXBlIjoiaHR0cHM6Ly9tb2RlbF9zaWduaW5nL3NpZ25hdHVyZS92MS4wIiwicHJlZGljYXRlIjp7InNlcmlhbGl6YXRpb24iOnsibWV0aG9kIjoiZmlsZXMiLCJoYXNoX3R5cGUiOiJzaGEyNTYiLCJhbGxvd19zeW1saW5rcyI6ZmFsc2UsImlnbm9yZV9wYXRocyI6WyJtb2RlbC5zaWciXX0sInJlc291cmNlcyI6W3sibmFtZSI6Ik1PREVMX0NBUkQubWQiLCJhbGdvcml0aG0iOiJzaGEyNTYiLCJkaWdlc3QiOiI3NDc2NzBiNWIxZWJjYzMyYTYzMGE0ZmNiMGI1YTE2M2I3NjFhMGVjMGQzNDExZTdkZGYyOTQ5MDZkNGU0YzY4In0seyJuYW1lIjoiZ29sZGVuL2dvbGRlbi5zYWZldGVuc29ycyIsImFsZ29yaXRobSI6InNoYTI1NiIsImRpZ2VzdCI6IjQ3MTBiNDQwZWVkYWYxZjIzMmJhZDg4YTY3N2VmM2VlYjcyZmRmYjdhNjQ0YTdiY2Q4NmExYmVlODQyZjA3NDUifSx7Im5hbWUiOiJtYW5pZmVzdC5qc29uIiwiYWxnb3JpdGhtIjoic2hhMjU2IiwiZGlnZXN0IjoiYWJlZTUwMzlmN2Y1YmU5OWI1M2MzN2YwYTI2MThkOGIyMmNiNTE2YWE0OTE4MmJhNmI2MTA5NzFkOGYzNGEwMCJ9LHsibmFtZSI6Im1vZGVsLnNhZmV0ZW5zb3JzIiwiYWxnb3JpdGhtIjoic2hhMjU2IiwiZGlnZXN0IjoiYTA5NjM5Y2E5M2I3YjZhMWE3NDliZDFjNjcyYjFiYWM3MGQyNTc1MzUwYWFjZDhlMDZmZmNjMmY0Y2MxNmEwYSJ9XX19",
    "payloadType": "application/vnd.in-toto+json",
    "signatures": [
      {
        "sig": "MEUCIQD1NnXTyXMBX+rGQ3jbcFTERn4RcsdGi0CAuBZPRswugQIgPDp7BUGjAD6u7BRX4838pU5Tei49BnEMGgm79hPPodE=",
        "keyid": ""
      }
    ]
  }
}