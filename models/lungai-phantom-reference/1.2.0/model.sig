{
  "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
  "verificationMaterial": {
    "publicKey": {
      "hint": "c07f4b36976471e5311b426def0c064a66e669075ffa0f61a59bcf08b4166ce2"
    },
    "tlogEntries": []
  },
  "dsseEnvelope": {
    "payload": "eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCJzdWJqZWN0IjpbeyJuYW1lIjoibHVuZ2FpLXBoYW50b20tcmVmZXJlbmNlLzEuMi4wIiwiZGlnZXN0Ijp7InNoYTI1NiI6IjUyYWEzYWNkMjMyZjM3NWVmZTZjNjM0NWQ4Y2I5Yzk2NTc0OWJkNTZiZmUxNTA2M2Y4ZjczNTIzN2ExMjRlYWIifX1dLCJwcmVkaWNhdGVUeXBlIjoiaHR0cHM6Ly9tb2RlbF9zaWduaW5nL3NpZ25hdHVyZS92MS4wIiwicHJlZGljYXRlIjp7InNlcmlhbGl6YXRpb24iOnsibWV0aG9kIjoiZmlsZXMiLCJoYXNoX3R5cGUiOiJzaGEyNTYiLCJhbGxvd19zeW1saW5rcyI6ZmFsc2UsImlnbm9yZV9wYXRocyI6WyJtb2RlbC5zaWciXX0sInJlc291cmNlcyI6W3sibmFtZSI6Ik1PREVMX0NBUkQubWQiLCJhbGdvcml0aG0iOiJzaGEyNTYiLCJkaWdlc3QiOiI5ODU2MTE1OTBjOWY3YjEyZGU3ODE5YTdiOGUzN2NjZWYyYjhhNTE4YWU1MzU4NjBmZTVkY2QzZTRiYTlhNDNkIn0seyJuYW1lIjoiZ29sZGVuL2dvbGRlbi5zYWZldGVuc29ycyIsImFsZ29yaXRobSI6InNoYTI1NiIsImRpZ2VzdCI6IjBlOTQ2ZmFjZTViYTkzOGU0YTU2YWMxODcxNDAwMTA1YmY0MGZmNmQzZTlmMTE1MGJmZTBjMDg3MjczOGVkZjUifSx7Im5hbWUiOiJtYW5pZmVzdC5qc29uIiwiYWxnb3JpdGhtIjoic2hhMjU2IiwiZGlnZXN0IjoiOGVhNjAxYTkzNzViMzE2Y2U1MzdhYTJjMzcwNDNlOGQ5MjEzMDJlNjk3M2Y5MWYyMzZhNjFhMmYwNTAxZGM5NCJ9LHsibmFtZSI6Im1vZGVsLnNhZmV0ZW5zb3JzIiwiYWxnb3JpdGhtIjoic2hhMjU2IiwiZGlnZXN0IjoiY2JmM2M3MjBlNDFiYmM2ODM4ZjNmNTI1OTQzMzYyYzJjYThmN2RmNmY3ZjBlYTMxMDNmZTQ4ZGU4ODkzMzc4MiJ9XX19",
    "payloadType": "application/vnd.in-toto+json",
    "signatures": [
      {
        "sig": "MEUCIQDcc9UrqVGmdJXMkm9L8Tt/XwwiQfWPhKBKyWN/H8v7dQIgV4fyEk8vxUrFu5kByBbWmSdBcmrqFXvBoXgmiWg1r48=",
        "keyid": ""
      }
    ]
  }
}