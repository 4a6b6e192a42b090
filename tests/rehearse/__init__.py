"""A rehearsal: requests that are derived or read, answers that are compared, differences that are explained."""
