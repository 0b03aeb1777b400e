"""A reproducibility benchmark harness for step-level credit assignment in LLM agents.

The four packages lie at the top of the repository and are imported from here: `stepcredit.envs`, `stepcredit.methods`,
`stepcredit.harness`, `stepcredit.paper`.
"""

__version__ = "0.1.0"
